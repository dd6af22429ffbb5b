"""Noise by which a seed means the same in ComfyUI as in core: each video draws from its own generator on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ....fusionframes_core.models.unet.interpolation_unet import GROUP_FRAMES, merge_groups
from ....fusionframes_core.sampling.noise import KEYFRAME_STAGE, STILL_STAGE, stage_noise
from ..model.hosted_models import SETTINGS, InterpolationModel, interpolation_stage


@dataclass(frozen=True)
class SeededNoise:
    """ComfyUI's NOISE, for latents of keyframes or of a still: `stage` is core's name of what is sampled."""

    seed: int
    stage: str = KEYFRAME_STAGE

    def generate_noise(self, latent: dict[str, Any]) -> Tensor:
        """Noise like a LATENT's samples [B, 4, T, h, w]."""
        return self.draws(latent["samples"])()

    def draws(self, video: Tensor) -> Callable[[], Tensor]:
        """A function whose calls give one draw after the other, each like `video` (B, 4, T, h, w)."""
        draw = stage_noise(self.seed, self.stage, video.shape[0], video.device)
        return lambda: draw(tuple(video.shape))


@dataclass(frozen=True)
class InterpolationNoise(SeededNoise):
    """The same for interpolation's latents of 4T − 3 frames, of which only the missing ones are noise.

    Core names the stage by the number of frames. `perturbed`: the given frames drew from the same generators first.
    """

    perturbed: bool = False

    def draws(self, video: Tensor) -> Callable[[], Tensor]:
        """See SeededNoise; the given frames are zeros."""
        draw = stage_noise(self.seed, interpolation_stage(video), video.shape[0], video.device)
        keyframes = torch.zeros_like(video[:, :, :: GROUP_FRAMES + 1])
        if self.perturbed:
            draw(tuple(keyframes.shape))
        batch, channels, count, *size = keyframes.shape
        return lambda: merge_groups(keyframes, draw((batch, GROUP_FRAMES * channels, count - 1, *size)))


def noise_of(model: Any, seed: int, positive: Any) -> SeededNoise:
    """The noise that core would draw for a MODEL of ours and its conditioning."""
    settings = [options.get(SETTINGS) or {} for _, options in positive]
    if isinstance(model.model, InterpolationModel):
        return InterpolationNoise(seed, perturbed=any(entry.get("perturbation", 0) for entry in settings))
    return SeededNoise(seed, STILL_STAGE if any(entry.get("still") for entry in settings) else KEYFRAME_STAGE)
