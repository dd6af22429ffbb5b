"""What a bias becomes behind a convolution over time: a number per channel inside, other numbers at the borders.

On a GPU a bias of its own costs a pass over the tensor. A convolution of x + b gives that of x, plus what its kernel
makes of b alone, which differs only where the zero padding begins. So b never has to be added: the pass behind the
convolution takes the sum of both along, from a small table.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.kernel_choice import takes_fused
from .layers import FastConv3d, is_hooked
from .stage_memo import StageMemo, once


def carries_bias(layer: nn.Module, x: Tensor) -> bool:
    """Whether `behind_bias` knows what `layer` makes of a bias of its input x (N, C, ...)."""
    if not isinstance(layer, FastConv3d) or is_hooked(layer) or not takes_fused(x, layer.weight, layer.bias):
        return False
    same = tuple(layer.padding) == tuple(side // 2 for side in layer.kernel_size) and layer.padding_mode == "zeros"
    plain = {*layer.stride, *layer.dilation, layer.groups} == {1}
    return same and plain and layer.kernel_size[0] == 3 and layer.kernel_size[1:] in ((1, 1), (3, 3))


def behind_bias(layer: FastConv3d, x: Tensor, bias: Tensor, memo: StageMemo | None = None) -> tuple[Tensor, Tensor]:
    """A convolution that `carries_bias`, of x (N, C, T, H, W) + bias (C,), without what both biases add to it.

    That is the second result, float32 (T, h, w, C'), by frame and by how near to a border a position is: h and w are 1
    for a kernel that sees one position only, else the first, an inner and the last one, as many as there are. With a
    memo it is the same in all steps of the stage.
    """
    extent = tuple(x.shape[2:])
    with layer.lent_weights(x) as (weight, own):
        out = layer._conv_forward(x, weight, None)
        edges = once(memo, ("behind", layer, extent), lambda: _edges(weight, own, bias.to(x.dtype), extent))
    return out, edges


def _edges(weight: Tensor, own: Tensor | None, bias: Tensor, extent: tuple[int, ...]) -> Tensor:
    taps = F.linear(bias, weight.permute(0, 2, 3, 4, 1).flatten(0, 3)).view(len(weight), -1).float()
    inside, cells = _inside(tuple(weight.shape[2:]), extent, bias.device)
    edges = inside @ taps.t() if own is None else torch.addmm(own.float(), inside, taps.t())
    return edges.view(*cells, -1)


@lru_cache(maxsize=64)
def _inside(
    kernel: tuple[int, ...], extent: tuple[int, ...], device: torch.device
) -> tuple[Tensor, tuple[int, int, int]]:
    """Which of a kernel's taps lie inside (T, H, W), for each cell: (cells, taps); and the cells' numbers by axis."""
    space = zip(kernel[1:], extent[1:], strict=True)
    places = [list(range(extent[0])), *(_distinct(size) if side > 1 else [0] for side, size in space)]
    axes = [
        torch.tensor([[float(0 <= place + tap - side // 2 < size) for tap in range(side)] for place in axis])
        for axis, side, size in zip(places, kernel, extent, strict=True)
    ]
    inside = torch.kron(axes[0], torch.kron(axes[1], axes[2])).to(device)
    return inside, (len(places[0]), len(places[1]), len(places[2]))


def _distinct(size: int) -> list[int]:
    """The first, an inner and the last place of an axis, as many as there are."""
    return sorted({0, min(1, size - 1), size - 1})
