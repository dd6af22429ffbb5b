"""Interpolation of latents: T frames become 4T − 3 (paper section 4.2, eq. 5)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..config import ScheduleConfig
from ..models.unet.interpolation_unet import GROUP_FRAMES, InterpolationCondition, InterpolationUNet, merge_groups
from .callbacks import shown_as
from .guidance import CONDITIONAL, UNCONDITIONAL, ContextGuidance, GuidedModel, PredictionInput, guided_model, with_text
from .noise import NoiseSource
from .options import ContextPair, InterpolationOptions
from .schedule import NoiseSchedule, add_noise
from .stage_sampler import StageSampler


def interpolate(
    unet: InterpolationUNet,
    frames: Tensor,
    texts: ContextPair,
    options: InterpolationOptions,
    sampler: StageSampler,
    drop_temporal: bool,
) -> Tensor:
    """One pass: latents (B, 4, T, h, w) to (B, 4, 4T − 3, h, w), the given frames unchanged in their places.

    The unconditional prediction sees zeros for frames (eq. 5) and, with `drop_temporal`, no temporal layers; the
    sampler's callback sees the whole video.
    """
    predict = guided_interpolation(unet, frames, texts, options, sampler, drop_temporal)
    batch, channels, count, height, width = frames.shape
    shape = (batch, GROUP_FRAMES * channels, count - 1, height, width)
    by_groups = replace(sampler, callback=shown_as(sampler.callback, lambda groups: merge_groups(frames, groups)))
    return merge_groups(frames, by_groups.sample(predict, shape, unet.base(frames)))


def guided_interpolation(
    unet: InterpolationUNet,
    frames: Tensor,
    texts: ContextPair,
    options: InterpolationOptions,
    sampler: StageSampler,
    drop_temporal: bool,
) -> GuidedModel:
    """The U-Net under context guidance (eq. 5) for `frames` (B, 4, T, h, w); arguments as for `interpolate`.

    Noise on the given frames is the first that the sampler's source draws.
    """
    batch, device = frames.shape[0], frames.device
    given = perturb(frames, options.perturbation, sampler.schedule, sampler.noise)
    condition = InterpolationCondition(
        keyframes=given,
        context=texts.conditional.context,
        mask=texts.conditional.mask,
        skip_frames=torch.full((batch,), options.skip_frames, device=device),
        perturbation=torch.full((batch,), options.perturbation, device=device),
        temporal=torch.ones(batch, dtype=torch.bool, device=device),
    )
    uninformed = replace(
        with_text(condition, texts.unconditional),
        keyframes=torch.zeros_like(given),
        temporal=torch.full_like(condition.temporal, not drop_temporal),
    )
    inputs = {CONDITIONAL: PredictionInput(condition), UNCONDITIONAL: PredictionInput(uninformed)}
    return guided_model(unet, ContextGuidance(sampler.options.guidance), inputs)


def perturb(frames: Tensor, level: int, schedule: ScheduleConfig, noise: NoiseSource) -> Tensor:
    """`level` forward-diffusion steps of noise on every video's given frames (B, 4, T, h, w) (section 4.2).

    0 gives the frames themselves, and draws nothing.
    """
    if level == 0:
        return frames
    levels = torch.full(frames.shape[:1], level, device=frames.device)
    return perturb_each(frames, levels, NoiseSchedule.from_config(schedule), noise)


def perturb_each(frames: Tensor, levels: Tensor, schedule: NoiseSchedule, noise: NoiseSource) -> Tensor:
    """Each video's own number of forward-diffusion steps, `levels` (B,) long, on frames (B, 4, T, h, w).

    0 leaves a video as it is. Noise is drawn for all of them, so that a level changes no draw that follows.
    """
    alpha, sigma = schedule.alpha_sigma((levels - 1).clamp(min=0))
    noisy = add_noise(frames, noise(tuple(frames.shape)), alpha, sigma)
    return torch.where((levels > 0).reshape(-1, 1, 1, 1, 1), noisy, frames)
