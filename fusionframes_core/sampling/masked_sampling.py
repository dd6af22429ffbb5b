"""Sampling with Masked Frame Interpolation (paper, appendix 10), the baseline of `interpolation_sampling`."""

from __future__ import annotations

from torch import Tensor

from ..models.unet.masked_unet import MaskedInterpolationUNet
from .interpolation_sampling import guided_interpolation
from .options import ContextPair, InterpolationOptions
from .stage_sampler import StageSampler


def interpolate_masked(
    unet: MaskedInterpolationUNet,
    frames: Tensor,
    texts: ContextPair,
    options: InterpolationOptions,
    sampler: StageSampler,
    drop_temporal: bool,
) -> Tensor:
    """One pass: latents (B, 4, T, h, w) to (B, 4, 4T − 3, h, w); arguments as for `interpolate`.

    The network predicts the given frames too; they are put back unchanged.
    """
    predict = guided_interpolation(unet, frames, texts, options, sampler, drop_temporal)
    base = unet.base(frames)
    video = sampler.sample(predict, tuple(base.shape), base)
    video[:, :, ::4] = frames
    return video
