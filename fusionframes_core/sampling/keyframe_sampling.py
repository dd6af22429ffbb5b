"""Keyframes from a prompt (paper section 4.1), and 1.1's stills and keyframes that continue an image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..models.text_encoder import TextContext
from ..models.unet.unet import KeyframeCondition
from .first_frame import FirstImage
from .guidance import TextGuidance, TextImageGuidance
from .noise import NoiseSource
from .stage import Sampling, guided


def sample_keyframes(
    unet: nn.Module,
    text: TextContext,
    negative: TextContext,
    guidance: float,
    positions: Tensor,
    size: tuple[int, int],
    noise: NoiseSource,
    sampling: Sampling,
) -> Tensor:
    """Keyframe latents (B, 4, T, h, w), float32, for B contexts and frame positions (B, T).

    `guidance` is w of (1 + w)·c − w·u, u: the `negative` context; `size` is (h, w) of the latents.
    """
    value = TextGuidance(guidance)
    conditions = [KeyframeCondition(context.context, context.mask, positions=positions) for context in (text, negative)]
    predict = guided(unet, value, conditions)
    return sampling.run(predict, (*_latent_shape(positions), *size), noise)


def sample_image(
    unet: nn.Module,
    text: TextContext,
    negative: TextContext,
    guidance: float,
    size: tuple[int, int],
    noise: NoiseSource,
    sampling: Sampling,
) -> Tensor:
    """A still image's latent (B, 4, 1, h, w) from a keyframe U-Net whose temporal parts are skipped."""
    batch = text.context.shape[0]
    conditions = [KeyframeCondition(context.context, context.mask, image=True) for context in (text, negative)]
    # 1.1 appends the image condition and its mask to the input; a still has neither.
    extra = [torch.zeros(batch, 5, 1, *size, device=text.context.device)] * 2
    predict = guided(unet, TextGuidance(guidance), conditions, extra)
    return sampling.run(predict, (batch, 4, 1, *size), noise)


def sample_keyframes_from_image(
    unet: nn.Module,
    text: TextContext,
    null: TextContext,
    guidance: float,
    positions: Tensor,
    image: FirstImage,
    noise: NoiseSource,
    sampling: Sampling,
) -> Tensor:
    """1.1: keyframe latents (B, 4, T, h, w) that continue an image, by the three predictions of TextImageGuidance."""
    batch, _, num_frames = shape = _latent_shape(positions)
    value = TextImageGuidance(guidance, image.guidance)
    levels: dict[str, Any] = {
        "motion_score": torch.full((batch,), float(image.motion_score), device=positions.device),
        "noise_augmentation": torch.full((batch,), float(image.noise_augmentation), device=positions.device),
    }
    conditions = [
        KeyframeCondition(context.context, context.mask, positions=positions, **levels)
        for context in (text, null, null)
    ]
    height, width = image.latent.shape[-2:]
    shown = torch.zeros(batch, 5, num_frames, height, width, device=positions.device)
    shown[:, :4, :1] = image.latent
    shown[:, 4, 0] = 1.0
    predict = guided(unet, value, conditions, [shown, shown, torch.zeros_like(shown)])
    return sampling.run(predict, (*shape, height, width), noise)


def _latent_shape(positions: Tensor) -> tuple[int, int, int]:
    return (positions.shape[0], 4, positions.shape[1])
