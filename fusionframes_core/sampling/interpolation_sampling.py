"""Interpolation of latents: T frames become 4T − 3 (paper section 4.2, eq. 5)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..config import ScheduleConfig
from ..models.text_encoder import TextContext
from ..models.unet.interpolation_unet import GROUP_FRAMES, InterpolationCondition, InterpolationUNet, merge_groups
from .guidance import ContextGuidance, GuidedModel
from .noise import NoiseSource
from .sampler import Callback, Stopped
from .schedule import NoiseSchedule
from .stage import Sampling, guided


def interpolate(
    unet: InterpolationUNet,
    frames: Tensor,
    contexts: tuple[TextContext, TextContext],
    guidance: float,
    levels: tuple[int, int],
    noise: NoiseSource,
    sampling: Sampling,
    drop_temporal: bool,
) -> Tensor:
    """One pass: latents (B, 4, T, h, w) to (B, 4, 4T − 3, h, w), the given frames unchanged in their places.

    `contexts` are of the conditional and the unconditional prediction, which sees zeros for frames (eq. 5) and, with
    `drop_temporal`, no temporal layers; `levels` are (skip_frames, perturbation), see `perturb`.
    """
    batch, channels, count, height, width = frames.shape
    predict = guided_interpolation(unet, frames, contexts, guidance, levels, noise, sampling, drop_temporal)
    report = _whole_video(sampling.callback, frames)
    shape = (batch, GROUP_FRAMES * channels, count - 1, height, width)
    groups = replace(sampling, callback=report).run(predict, shape, noise, unet.base(frames))
    return merge_groups(frames, groups)


def guided_interpolation(
    unet: InterpolationUNet,
    frames: Tensor,
    contexts: tuple[TextContext, TextContext],
    guidance: float,
    levels: tuple[int, int],
    noise: NoiseSource,
    sampling: Sampling,
    drop_temporal: bool,
) -> GuidedModel:
    """The U-Net under context guidance (eq. 5) for `frames` (B, 4, T, h, w); arguments as for `interpolate`."""
    batch, device = frames.shape[0], frames.device
    skip_frames, perturbation = levels
    given = perturb(frames, perturbation, sampling.schedule, noise)
    conditional, unconditional = contexts
    condition = InterpolationCondition(
        keyframes=given,
        context=conditional.context,
        mask=conditional.mask,
        skip_frames=torch.full((batch,), skip_frames, device=device),
        perturbation=torch.full((batch,), perturbation, device=device),
        temporal=torch.ones(batch, dtype=torch.bool, device=device),
    )
    without = replace(
        condition,
        keyframes=torch.zeros_like(given),
        context=unconditional.context,
        mask=unconditional.mask,
        temporal=torch.full_like(condition.temporal, not drop_temporal),
    )
    return guided(unet, ContextGuidance(guidance), [condition, without])


def perturb(frames: Tensor, level: int, schedule: ScheduleConfig, noise: NoiseSource) -> Tensor:
    """`level` forward-diffusion steps of noise on the frames that interpolation is given (section 4.2); 0: as is."""
    if level == 0:
        return frames
    alpha, sigma = NoiseSchedule.from_config(schedule).alpha_sigma(torch.tensor(level - 1))
    return alpha.item() * frames + sigma.item() * noise(tuple(frames.shape))


def _whole_video(callback: Callback | None, frames: Tensor) -> Callback | None:
    """A callback that sees the video with the groups merged in, instead of the groups."""
    if callback is None:
        return None

    def report(step: int, total: int, x0: Tensor) -> Stopped | None:
        return callback(step, total, merge_groups(frames, x0))

    return report
