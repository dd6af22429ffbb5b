"""1.1: the image that keyframes continue, given or drawn, and its way through the image autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .checkpoints.offload import OffloadedModels
from .config import ModelConfig
from .media.frames import fit_image
from .models.casting import compute_dtype
from .models.text_encoder import TextContext
from .sampling.first_frame import FirstImage, first_image
from .sampling.keyframe_sampling import sample_image
from .sampling.noise import NoiseSource, stage_noise
from .sampling.stage import Sampling
from .settings import GenerationSettings, motion_score, spatial_factor

ENCODE_CHUNK = 8  # frames
STILL_SCALE = 2  # 1.1 draws its first image at twice the video's size
# Stages of `stage_noise`; apart, so that the noise on an image is the same whether it was drawn or given.
STILL_STAGE, IMAGE_STAGE = "image", "noise on the image"


def make_first_image(
    residency: OffloadedModels,
    texts: tuple[TextContext, TextContext],
    chosen: GenerationSettings,
    sampling: Sampling,
    image: Tensor | None,
) -> FirstImage:
    """The given image (B or 1, 3, H, W), or one that is drawn at twice the size; its latent with noise on it.

    `texts` are the prompt's context and the one that it is guided away from; `chosen` has every default filled in.
    """
    config, device = residency.config, residency.device
    batch = texts[0].context.shape[0]
    if image is None:
        noise = stage_noise(chosen.seed, STILL_STAGE, batch, device)
        image = draw_image(residency, texts, chosen, replace(sampling, callback=None), noise)
    level, weight = chosen.noise_augmentation, chosen.image_guidance
    assert chosen.size is not None
    assert chosen.motion is not None
    assert level is not None
    assert weight is not None
    pixels = fit_image(image.float(), chosen.size).to(device)
    with image_movq(residency) as movq:
        latent = encode_images(movq, pixels.expand(batch, -1, -1, -1)[:, :, None], device)
    noise = stage_noise(chosen.seed, IMAGE_STAGE, batch, device)
    latent = first_image(latent, level, config.image_noise, sampling.schedule, noise)
    return FirstImage(latent, weight, motion_score(chosen.motion), level)


def draw_image(
    residency: OffloadedModels,
    texts: tuple[TextContext, TextContext],
    chosen: GenerationSettings,
    sampling: Sampling,
    noise: NoiseSource,
) -> Tensor:
    """A still (B, 3, H, W) in [−1, 1] at twice the video's size, from the keyframe U-Net."""
    height, width = (STILL_SCALE * side for side in latent_size(residency.config, chosen))
    assert chosen.still_guidance is not None
    with residency.stage("keyframe") as unet:
        still = sample_image(unet, *texts, chosen.still_guidance, (height, width), noise, sampling)
    with image_movq(residency) as movq:
        pixels = movq.decode(still.to(residency.device, compute_dtype(movq)), temporal=False)
    return pixels[:, :, 0].float().clamp(-1, 1)


def image_movq(residency: OffloadedModels) -> AbstractContextManager[Any]:
    """The stage of the image autoencoder, which is the video's where the model has no other."""
    return residency.stage("image_movq" if residency.config.image_movq is not None else "movq")


def latent_size(config: ModelConfig, chosen: GenerationSettings) -> tuple[int, int]:
    """(h, w) of the latents of a generation."""
    assert chosen.size is not None
    factor = spatial_factor(config.movq)
    return chosen.size[0] // factor, chosen.size[1] // factor


def check_image(image: Tensor | None, batch: int, config: ModelConfig) -> Tensor | None:
    """A first image as (B or 1, 3, H, W). Raises ValueError for another shape or a model that takes none."""
    if image is None:
        return None
    if not config.keyframe.image_input:
        raise ValueError(f"image must be left out: {config.name} does not start from an image")
    pixels = image[None] if image.ndim == 3 else image
    if pixels.ndim != 4 or pixels.shape[1] != 3 or pixels.shape[0] not in (1, batch):
        shape = tuple(image.shape)
        raise ValueError(f"image must be (3, H, W), or (B, 3, H, W) with one for each prompt; got {shape}")
    return pixels


def encode_images(movq: Any, pixels: Tensor, device: torch.device) -> Tensor:
    """Pixels (B, 3, T, H, W) to float32 latents, a few frames at a time."""
    chunks = pixels.split(ENCODE_CHUNK, dim=2)
    return torch.cat([movq.encode(chunk.to(device, compute_dtype(movq))).float() for chunk in chunks], dim=2)


def decode_images(
    movq: Any, latents: Tensor, output_device: torch.device, report: Callable[[int, int], None]
) -> Tensor:
    """Latents (B, C, T, h, w) to pixels frame by frame, without the temporal layers; reports every few frames."""
    chunks = latents.split(ENCODE_CHUNK, dim=2)
    decoded = []
    for index, chunk in enumerate(chunks):
        decoded.append(movq.decode(chunk, temporal=False).to(output_device))
        report(index + 1, len(chunks))
    return torch.cat(decoded, dim=2)
