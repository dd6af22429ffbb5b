"""How videos are laid out for the layers: frames in the batch for space, windows of tokens for attention.

Inside the models a video is (B·T, C, H, W). Activations of the U-Nets are channels-last in memory: `to_tokens` and the
(B, C, T, H, W) view that temporal convolutions want are then free. The two-step folds below stay torch calls, since
they run hundreds of times a forward; einops says the longer ones.
"""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .edge_bias import behind_bias
from .layers import FastConv3d, without_bias
from .stage_memo import StageMemo

Network = TypeVar("Network", bound=nn.Module)


FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""By a kernel's number of axes: the memory format of one whose channels lie last."""


def channels_last(network: Network) -> Network:
    """The same network with every kernel in the layout that a GPU convolves activations like ours in, one by one."""
    for parameter in network.parameters():
        if parameter.ndim in FORMATS:
            parameter.data = parameter.data.contiguous(memory_format=FORMATS[parameter.ndim])
    return network


def empty_laid_out_as(like: Tensor, *shape: int) -> Tensor:
    """A new tensor of `shape` (N, C, H, W), of the type and device of `like`; its channels lie last where `like`'s do.

    Beside channels-last weights a convolution copies an input that lies otherwise.
    """
    last = not like.is_contiguous() and like.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)


def fold_frames(x: Tensor) -> Tensor:
    """(B, C, T, H, W) to (B·T, C, H, W)."""
    return x.transpose(1, 2).flatten(0, 1)


def unfold_frames(x: Tensor, num_frames: int) -> Tensor:
    """(B·T, C, H, W) to (B, C, T, H, W)."""
    return x.unflatten(0, (-1, num_frames)).transpose(1, 2)


def over_time(convolution: nn.Module, x: Tensor, num_frames: int) -> Tensor:
    """Run a 3-D convolution over the frames of each video: (B·T, C, H, W), same T."""
    return fold_frames(convolution(unfold_frames(x, num_frames)))


def over_time_without_bias(
    convolution: nn.Module,
    x: Tensor,
    num_frames: int,
    bias: Tensor | None = None,
    memo: StageMemo | None = None,
) -> tuple[Tensor, Tensor | None]:
    """`over_time` of x + bias, and what it left out: as `layers.without_bias`, with a bias as `edge_bias.behind_bias`.

    A bias (C,) needs a convolution that `carries_bias`.
    """
    video = unfold_frames(x, num_frames)
    if bias is None:
        out, behind = without_bias(convolution, video)
    else:
        assert isinstance(convolution, FastConv3d)
        out, behind = behind_bias(convolution, video, bias, memo)
    return fold_frames(out), behind


def to_tokens(x: Tensor) -> Tensor:
    """(N, C, H, W) to (N, H·W, C); no copy when `x` is channels-last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def from_tokens(tokens: Tensor, height: int, width: int) -> Tensor:
    """(N, H·W, C) to a channels-last (N, C, H, W); the inverse of `to_tokens`."""
    return tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2)


def to_windows(video: Tensor, window: int) -> tuple[Tensor, Tensor | None]:
    """Partition a video into windows of `window`×`window` positions over all frames, as MaxViT's block attention does.

    (B, T, H, W, C) to (B·windows, T·window², C). Sizes that are no multiple of the window are padded; the mask, bool
    and (B·windows, 1, 1, T·window²), hides the padding, and is None where there is none.
    """
    if window == 1:
        return rearrange(video, "b t h w c -> (b h w) t c"), None
    batch, frames, height, width, _ = video.shape
    right, below = -width % window, -height % window
    tokens = _partition(F.pad(video, (0, 0, 0, right, 0, below)), window)
    if not right and not below:
        return tokens, None
    inside = F.pad(video.new_ones(1, frames, height, width, 1, dtype=torch.bool), (0, 0, 0, right, 0, below))
    return tokens, _partition(inside, window).repeat(batch, 1, 1).transpose(1, 2)[:, None]


def _partition(video: Tensor, window: int) -> Tensor:
    return rearrange(video, "b t (h i) (w j) c -> (b h w) (t i j) c", i=window, j=window)


def from_windows(tokens: Tensor, video: Tensor, window: int) -> Tensor:
    """Undo `to_windows` for a video (B, T, H, W, C): gives (B·T, C, H, W), channels-last for windows of one."""
    batch, frames, height, width = video.shape[:4]
    if window == 1:
        grid = rearrange(tokens, "(b h w) t c -> (b t) h w c", b=batch, h=height, w=width)
        return grid.permute(0, 3, 1, 2)
    rows, columns = -(-height // window), -(-width // window)
    padded = rearrange(
        tokens,
        "(b h w) (t i j) c -> b t c (h i) (w j)",
        b=batch, h=rows, w=columns, t=frames, i=window, j=window,
    )  # fmt: skip
    return padded[..., :height, :width].flatten(0, 1)
