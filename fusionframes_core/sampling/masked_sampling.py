"""Sampling with Masked Frame Interpolation (paper, appendix 10), the baseline of `stages.interpolate`."""

from __future__ import annotations

from torch import Tensor

from ..models.text_encoder import TextContext
from ..models.unet.masked_unet import MaskedInterpolationUNet
from .interpolation_sampling import guided_interpolation
from .noise import NoiseSource
from .stage import Sampling


def interpolate_masked(
    unet: MaskedInterpolationUNet,
    frames: Tensor,
    contexts: tuple[TextContext, TextContext],
    guidance: float,
    levels: tuple[int, int],
    noise: NoiseSource,
    sampling: Sampling,
    drop_temporal: bool,
) -> Tensor:
    """One pass: latents (B, 4, T, h, w) to (B, 4, 4T − 3, h, w); arguments as for `stages.interpolate`.

    The network predicts the given frames too; they are put back unchanged.
    """
    predict = guided_interpolation(unet, frames, contexts, guidance, levels, noise, sampling, drop_temporal)
    base = unet.base(frames)
    video = sampling.run(predict, tuple(base.shape), noise, base)
    video[:, :, ::4] = frames
    return video
