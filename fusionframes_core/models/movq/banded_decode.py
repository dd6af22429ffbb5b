"""Decoding in horizontal bands, layer by layer, for frames that a card cannot hold otherwise.

Every convolution sees a band of rows with its neighbours' rows around it, every norm the moments of the whole frame, so
that the result is that of the whole frame up to rounding: no seam. Activations are written over where a layer keeps its
channels; beside them only one band's work is in memory. The middle and attention, at the latents' own size, run whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...kernels.elementwise import modulate, silu
from ..layout import empty_laid_out_as, fold_frames, unfold_frames
from .movq import MoVQ
from .movq_blocks import FrameContext, FrameNorm, SpatialNorm, UnmodulatedNorm, Upsample, repeat_pixels
from .movq_temporal import InflatedResnetBlock, ResnetBlock, TemporalConv, TemporalResnetBlock

HALO = 1  # rows that a 3×3 convolution sees beyond a band
PORTION = 2**23  # numbers of an activation that make a band

Work = Callable[[Tensor, int], Tensor]  # (rows with their halo, index of the first) -> results of the same rows
Step = Callable[[Tensor, FrameContext], Tensor]


class BandedDecoder:
    """What `decode_chunked` asks of a decoder: each chunk in bands of at most `portion` numbers (but one row)."""

    def __init__(self, movq: MoVQ, temporal: bool = True, portion: int = PORTION) -> None:
        self.movq, self.temporal, self.portion, self.factor = movq, temporal, portion, movq.factor
        self.frames_are_independent = movq.frames_are_independent or not temporal

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """`MoVQ.decode`: latents (B, C, T, h, w) to pixels (B, 3, T, H, W)."""
        frames = fold_frames(latents)
        context = FrameContext(latents=frames, num_frames=latents.shape[2], temporal=self.temporal)
        decoder = self.movq.decoder
        x = decoder.mid(decoder.conv_in(self.movq.post_quant_conv(frames)), context)
        for step in self._steps():
            x = step(x, context)  # nothing else holds what a step is given
        pixels = self._convolve(decoder.conv_out, BandNorm(decoder.norm_out, x, context, self.portion), x)
        return unfold_frames(F.pixel_shuffle(pixels, decoder.patch_size), latents.shape[2])

    def _steps(self) -> Iterator[Step]:
        """The layers of all levels in their order."""
        levels: Any = self.movq.decoder.up
        for level in reversed(levels):
            for layers in zip(level.block, level.temporal_block, level.attn, level.temporal_attn, strict=True):
                yield from map(self._step, layers)
            yield self._step(level.upsample)

    def _step(self, layer: nn.Module) -> Step:
        kinds: dict[type, Any] = {
            ResnetBlock: self._resnet,
            TemporalResnetBlock: self._temporal_resnet,
            Upsample: self._double,
        }
        for kind, work in kinds.items():
            if isinstance(layer, kind):
                return partial(work, layer)
        return layer

    def _double(self, layer: Any, x: Tensor, context: FrameContext) -> Tensor:
        return by_bands(lambda rows, _: layer.conv(repeat_pixels(rows)), x, self.portion)

    def _resnet(self, block: ResnetBlock, x: Tensor, context: FrameContext) -> Tensor:
        conv1, conv2 = (over_frames(block, conv, context) for conv in (block.conv1, block.conv2))
        h = self._convolve(conv1, BandNorm(block.norm1, x, context, self.portion), x)
        self._temporal_conv(block.temporal1, h, context)
        self._convolve(conv2, BandNorm(block.norm2, h, context, self.portion), h, h)
        self._temporal_conv(block.temporal2, h, context)
        for start, stop in bands_of(x, self.portion):
            h[:, :, start:stop] += block.nin_shortcut(x[:, :, start:stop])
        return h

    def _temporal_resnet(self, block: TemporalResnetBlock, x: Tensor, context: FrameContext) -> Tensor:
        if not context.temporal:
            return x
        conv1, conv2 = (in_time(conv, context.num_frames) for conv in (block.conv1, block.conv2))
        h = self._convolve(conv1, BandNorm(block.norm1, x, context, self.portion), x)
        self._convolve(conv2, BandNorm(block.norm2, h, context, self.portion), h, h)
        return h.add_(x)

    def _convolve(
        self, conv: Callable[[Tensor], Tensor], norm: BandNorm, x: Tensor, out: Tensor | None = None
    ) -> Tensor:
        """conv(silu(norm(x))), into `out`, which may be x."""
        return by_bands(lambda rows, first: conv(silu(norm(rows, first))), x, self.portion, out)

    def _temporal_conv(self, layer: nn.Module, h: Tensor, context: FrameContext) -> None:
        if isinstance(layer, TemporalConv) and context.temporal:
            by_bands(lambda rows, _: layer(rows.clone(), context), h, self.portion, h)


def over_frames(
    block: ResnetBlock, conv: Callable[[Tensor], Tensor], context: FrameContext
) -> Callable[[Tensor], Tensor]:
    """The convolution of a residual block on (B·T, C, H, W): of each frame, or over time where it is inflated."""
    if not isinstance(block, InflatedResnetBlock):
        return conv
    return in_time(conv, context.num_frames if context.temporal else 1)


def in_time(conv: Callable[[Tensor], Tensor], num_frames: int) -> Callable[[Tensor], Tensor]:
    """A 3D convolution as a function of (B·T, C, H, W)."""
    return lambda rows: fold_frames(conv(unfold_frames(rows, num_frames)))


def bands_of(x: Tensor, portion: int) -> list[tuple[int, int]]:
    """[start, stop) of the rows of x (N, C, H, W) that make bands of at most `portion` numbers, or of HALO rows."""
    height, size = x.shape[2], max(portion // x[:, :, :1].numel(), HALO)
    return [(start, min(start + size, height)) for start in range(0, height, size)]


def by_bands(work: Work, x: Tensor, portion: int, out: Tensor | None = None) -> Tensor:
    """`work` for every band of x (N, C, H, W) with HALO rows around it; the band's own results go into `out`.

    `out` may be x itself, or None: a new tensor, laid out as what `work` gives, which may be a multiple of its rows.
    """
    height = x.shape[2]
    above = None  # the row above a band, as it was before the band above was written over
    for start, stop in bands_of(x, portion):
        low, high = max(start - HALO, 0), min(stop + HALO, height)
        rows = x[:, :, low:high] if out is not x or above is None else torch.cat((above, x[:, :, start:high]), dim=2)
        if out is x:
            above = x[:, :, stop - HALO : stop].clone()
        result = work(rows, low)
        scale = result.shape[2] // rows.shape[2]
        if out is None:
            out = empty_laid_out_as(result, *result.shape[:2], scale * height, result.shape[3])
        out[:, :, start * scale : stop * scale] = result[:, :, (start - low) * scale : (stop - low) * scale]
    assert out is not None
    return out


class BandNorm:
    """One of the decoder's norms for bands of x: moments and modulation are of the whole frame."""

    def __init__(self, norm: FrameNorm, x: Tensor, context: FrameContext, portion: int) -> None:
        layer = norm.norm_layer.spec(x)
        assert layer.weight is not None
        assert layer.bias is not None
        self.height = x.shape[2]
        mean, rstd = frame_moments(x, layer.groups, layer.eps, portion)
        per_channel = x.shape[1] // layer.groups
        mean, rstd = (part.repeat_interleave(per_channel, 1) for part in (mean, rstd))
        self.scale = rstd * layer.weight.float()
        self.shift = layer.bias.float() - mean * self.scale
        self.modulation = modulation(norm, context)

    def __call__(self, rows: Tensor, first: int) -> Tensor:
        """Rows (N, C, R, W) that begin at row `first` of the frame, normalised and modulated."""
        scale, shift = (part[:, :, None, None] for part in (self.scale, self.shift))
        normed = torch.addcmul(shift, rows.float(), scale).to(rows.dtype)
        if self.modulation is None:
            return normed
        factor = self.height // self.modulation[0].shape[2]
        index = torch.arange(first, first + rows.shape[2], device=rows.device) // factor
        wide = (part.index_select(2, index).repeat_interleave(factor, 3) for part in self.modulation)
        return modulate(normed, *wide)


def frame_moments(x: Tensor, groups: int, eps: float, portion: int) -> tuple[Tensor, Tensor]:
    """Mean and 1/√(variance + ε) of every group of each frame, (N, groups) float32, taken band by band."""
    means, variances, shares = [], [], []
    for start, stop in bands_of(x, portion):
        grouped = x[:, :, start:stop].unflatten(1, (groups, -1)).float()
        variance, mean = torch.var_mean(grouped, dim=(2, 3, 4), correction=0)
        means.append(mean)
        variances.append(variance)
        shares.append((stop - start) / x.shape[2])
    share = torch.tensor(shares, device=x.device).view(-1, 1, 1)
    each = torch.stack(means)
    mean = (each * share).sum(0)
    variance = ((torch.stack(variances) + (each - mean).square()) * share).sum(0)
    return mean, (variance + eps).rsqrt()


def modulation(norm: FrameNorm, context: FrameContext) -> tuple[Tensor, Tensor] | None:
    """Scale and shift (N, C, h, w) that a norm takes from the latents; None: it takes none."""
    if not isinstance(norm, SpatialNorm) or isinstance(norm, UnmodulatedNorm):
        return None
    scale, shift = norm.modulation(context)
    copies = len(context.latents) // len(scale)  # one for every frame, or for all of a video
    return scale.repeat_interleave(copies, 0), shift.repeat_interleave(copies, 0)
