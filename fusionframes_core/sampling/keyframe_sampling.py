"""Keyframes from a prompt (paper section 4.1), and 1.1's stills and keyframes that continue a first frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..models.unet.unet import KeyframeCondition
from .first_frame import FirstFrame
from .guidance import (
    CONDITIONAL,
    IMAGE,
    UNCONDITIONAL,
    PredictionInput,
    TextGuidance,
    TextImageGuidance,
    guided_model,
    with_text,
)
from .options import ContextPair
from .stage_sampler import Given, StageSampler

LATENT_CHANNELS = 4


def sample_keyframes(
    unet: nn.Module,
    texts: ContextPair,
    positions: Tensor,
    size: tuple[int, int],
    sampler: StageSampler,
    given: Given | None = None,
) -> Tensor:
    """Keyframe latents (B, 4, T, h, w), float32, for the texts of B videos and frame positions (B, T).

    `size` is (h, w) of the latents; `given` a video to begin with, and frames to hold.
    """
    condition = KeyframeCondition(texts.conditional.context, texts.conditional.mask, positions=positions)
    inputs = {
        CONDITIONAL: PredictionInput(condition),
        UNCONDITIONAL: PredictionInput(with_text(condition, texts.unconditional)),
    }
    predict = guided_model(unet, TextGuidance(sampler.options.guidance), inputs)
    batch, num_frames = positions.shape
    return sampler.sample(predict, (batch, LATENT_CHANNELS, num_frames, *size), given=given)


def sample_image(unet: nn.Module, texts: ContextPair, size: tuple[int, int], sampler: StageSampler) -> Tensor:
    """Stills' latents (B, 4, 1, h, w) from a keyframe U-Net whose temporal parts are skipped (1.1).

    `size` is (h, w) of the latents.
    """
    condition = KeyframeCondition(texts.conditional.context, texts.conditional.mask, image=True)
    shape = (texts.batch, LATENT_CHANNELS, 1, *size)
    # 1.1's U-Net takes a first frame's latent and a mask beside the noisy latents; a still has neither.
    empty = torch.zeros(texts.batch, LATENT_CHANNELS + 1, 1, *size, device=condition.context.device)
    inputs = {
        CONDITIONAL: PredictionInput(condition, empty),
        UNCONDITIONAL: PredictionInput(with_text(condition, texts.unconditional), empty),
    }
    predict = guided_model(unet, TextGuidance(sampler.options.guidance), inputs)
    return sampler.sample(predict, shape)


def sample_keyframes_from_image(
    unet: nn.Module,
    texts: ContextPair,
    positions: Tensor,
    first: FirstFrame,
    image_guidance: float,
    sampler: StageSampler,
) -> Tensor:
    """1.1: keyframe latents (B, 4, T, h, w) that continue a first frame, by the predictions of TextImageGuidance.

    The sampler's guidance is the weight of the text, `image_guidance` that of the first frame.
    """
    batch, num_frames = positions.shape
    condition = KeyframeCondition(
        texts.conditional.context,
        texts.conditional.mask,
        positions=positions,
        motion_score=torch.full((batch,), float(first.motion_score), device=positions.device),
        noise_augmentation=torch.full((batch,), float(first.noise_augmentation), device=positions.device),
    )
    without_text = with_text(condition, texts.unconditional)
    channels = first_frame_channels(first.latent, num_frames)
    inputs = {
        CONDITIONAL: PredictionInput(condition, channels),
        IMAGE: PredictionInput(without_text, channels),
        UNCONDITIONAL: PredictionInput(without_text, torch.zeros_like(channels)),
    }
    guidance = TextImageGuidance(sampler.options.guidance, image_guidance)
    shape = (batch, LATENT_CHANNELS, num_frames, *first.latent.shape[-2:])
    return sampler.sample(guided_model(unet, guidance, inputs), shape)


def first_frame_channels(latent: Tensor, num_frames: int) -> Tensor:
    """1.1's other five input channels (B, 5, T, h, w) for a first frame's latent (B, 4, 1, h, w).

    The latent and a mask of ones in the first frame's place, zeros in the others.
    """
    batch, channels, _, height, width = latent.shape
    given = torch.zeros(batch, channels + 1, num_frames, height, width, device=latent.device)
    given[:, :channels, :1] = latent
    given[:, channels, 0] = 1.0
    return given
