"""1.1: the first frame that keyframes continue, given or drawn, through the models that it takes.

What is sampled is in `sampling.first_frame` and `sampling.keyframe_sampling`; here the models come and go.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from .checkpoints.offload import OffloadedModels
from .config import ModelConfig
from .errors import require_finite
from .media.frames import fit_image
from .models.casting import compute_dtype
from .models.movq.frame_chunks import decode_frames, encode_frames
from .sampling.first_frame import FirstFrame, augment_with_noise
from .sampling.keyframe_sampling import sample_image
from .sampling.noise import AUGMENTATION_STAGE, STILL_STAGE, stage_noise
from .sampling.options import ContextPair
from .sampling.stage_sampler import StageSampler
from .settings import ResolvedImageSettings, latent_size, motion_score

STILL_SCALE = 2  # 1.1 draws its first frame at twice the video's size


def make_first_frame(
    residency: OffloadedModels, texts: ContextPair, chosen: ResolvedImageSettings, image: Tensor | None
) -> FirstFrame:
    """The latent, with noise on it, of the given image (B or 1, 3 or 4, H, W), or of one that is drawn.

    `texts` are on the models' device.
    """
    config, device = residency.config, residency.device
    if image is None:
        image = draw_first_frame(residency, texts, chosen)
    pixels = fit_image(image.float(), chosen.size, chosen.image_fit).to(device)
    with image_movq(residency) as movq:
        latent = encode_frames(movq, pixels.expand(texts.batch, -1, -1, -1)[:, :, None], device)
    noise = stage_noise(chosen.seed, AUGMENTATION_STAGE, texts.batch, device)
    level = chosen.noise_augmentation
    latent = augment_with_noise(latent, level, config.image_noise, config.keyframe_schedule, noise)
    return FirstFrame(latent, motion_score(chosen.motion), level)


def draw_first_frame(residency: OffloadedModels, texts: ContextPair, chosen: ResolvedImageSettings) -> Tensor:
    """A still (B, 3, H, W) in [−1, 1] of each text at twice the video's size, from the keyframe U-Net."""
    config = residency.config
    height, width = (STILL_SCALE * side for side in latent_size(config, chosen.size))
    noise = stage_noise(chosen.seed, STILL_STAGE, texts.batch, residency.device)
    sampler = StageSampler(config.keyframe_schedule, chosen.still_sampling, noise)
    with residency.stage("keyframe") as unet:
        still = sample_image(unet, texts, (height, width), sampler)
    with image_movq(residency) as movq:
        dtype = compute_dtype(movq)
        stills = [decode_frames(movq, latent, latent.device) for latent in still.to(residency.device, dtype).split(1)]
        pixels = require_finite("decoding the first frame", torch.cat(stills), dtype)
    return pixels[:, :, 0].float().clamp(-1, 1)


def image_movq(residency: OffloadedModels) -> AbstractContextManager[Any]:
    """The stage of the image autoencoder, which is the video's where the model has no other."""
    return residency.stage("image_movq" if residency.config.image_movq is not None else "movq")


def check_image(image: Tensor | None, batch: int, config: ModelConfig) -> Tensor | None:
    """A first image as (B or 1, 3 or 4, H, W), a fourth channel being alpha. Raises ValueError for another shape, and
    for a model that takes none."""
    if image is None:
        return None
    if not config.keyframe.image_input:
        raise ValueError(f"image must be left out: {config.name} does not start from an image")
    pixels = image[None] if image.ndim == 3 else image
    if pixels.ndim != 4 or pixels.shape[1] not in (3, 4) or pixels.shape[0] not in (1, batch):
        shape = tuple(image.shape)
        raise ValueError(
            f"image must be (3, H, W), or (B, 3, H, W) with one for each prompt (4 with alpha); got {shape}"
        )
    return pixels
