"""The two sampling stages as functions of a network: keyframes (paper section 4.1) and interpolation (section 4.2)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import ScheduleConfig
from .models.casting import compute_dtype
from .models.interpolation import InterpolationCondition, InterpolationUNet, merge_groups
from .models.text_encoder import TextContext
from .models.unet import KeyframeCondition
from .sampling.guidance import ContextGuidance, Guidance, GuidedModel, TextGuidance, TextImageGuidance
from .sampling.sampler import SAMPLERS, Callback, NoiseSource, Stopped, denoise
from .sampling.schedule import NoiseSchedule, add_noise
from .sampling.thresholding import threshold_x0

IMAGE_NOISES: dict[str, Callable[[Tensor], Tensor]] = {"gaussian": torch.Tensor.clone, "uniform": torch.special.ndtr}
"""What is added to the first image, from Gaussian noise."""
GROUP_FRAMES = 3  # frames that interpolation puts between two neighbours


@dataclass(frozen=True)
class Sampling:
    """How a stage is sampled: its schedule, the number of steps, the sampler (None: of record) and a callback."""

    schedule: ScheduleConfig
    steps: int
    sampler: str | None = None
    callback: Callback | None = None

    def run(
        self, predict: GuidedModel, shape: tuple[int, ...], noise: NoiseSource, base: Tensor | float = 0.0
    ) -> Tensor:
        """Denoise fresh noise of `shape` (B, C, T, h, w) to clean latents, float32.

        What is diffused is the latents' difference from `base`; limits and the callback see the latents themselves.
        """
        config = self.schedule
        schedule = NoiseSchedule.from_config(config, self.steps)
        sampler = SAMPLERS[self.sampler or config.sampler]

        def limit(x0: Tensor) -> Tensor:
            return threshold_x0(x0 + base, config.threshold_quantile) - base

        def report(step: int, total: int, x0: Tensor) -> Stopped | None:
            return self.callback(step, total, x0 + base) if self.callback is not None else None

        return denoise(predict, noise(shape), schedule, sampler, config.prediction, noise, limit, report) + base


@dataclass(frozen=True)
class FirstImage:
    """1.1 keyframes continue an image: its latent (B, 4, 1, h, w) with `noise_augmentation` steps of noise on it."""

    latent: Tensor
    guidance: float
    motion_score: float
    noise_augmentation: int


def first_image(latent: Tensor, level: int, kind: str, schedule: ScheduleConfig, noise: NoiseSource) -> Tensor:
    """1.1: `level` of noise on the first image's latent (B, 4, 1, h, w).

    `kind` "uniform" in [0, 1) is what 1.1's code adds, "gaussian" what the model's training had.
    """
    if kind not in IMAGE_NOISES:
        raise ValueError(f"image_noise must be one of {', '.join(IMAGE_NOISES)}; got {kind!r}")
    alpha, sigma = NoiseSchedule.from_config(schedule).alpha_sigma(torch.tensor(level))
    return add_noise(latent, IMAGE_NOISES[kind](noise(tuple(latent.shape))), alpha, sigma)


def fit_image(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Pixels (B, 3, H, W) scaled to cover `size` (height, width), and its centre; large ones as 1.1's code does."""
    height, width = size
    factor = min(pixels.shape[-1] / width, pixels.shape[-2] / height)
    smaller = (max(round(pixels.shape[-2] / factor), height), max(round(pixels.shape[-1] / factor), width))
    if smaller != tuple(pixels.shape[-2:]):
        pixels = functional.interpolate(pixels, smaller, mode="bicubic", antialias=True).clamp(-1, 1)
    top, left = (smaller[0] - height) // 2, (smaller[1] - width) // 2
    return pixels[..., top : top + height, left : left + width]


def stage_noise(seed: int, stage: str, batch: int, device: torch.device | str) -> NoiseSource:
    """A source of Gaussian noise for one stage: one CPU generator for each video, from seed, seed + 1, ...

    Stages draw from generators of their own, so that the number of passes changes nothing before them, and a video
    of a batch is the video of its own seed.
    """
    generators = []
    for index in range(batch):
        digest = hashlib.sha256(f"{seed + index}/{stage}".encode()).digest()
        generators.append(torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1))

    def draw(shape: tuple[int, ...]) -> Tensor:
        rows = [torch.randn(shape[1:], generator=generator, dtype=torch.float32) for generator in generators]
        return torch.stack(rows).to(device)

    return draw


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


def guided(
    unet: nn.Module, guidance: Guidance, conditions: Sequence[Any], extra: Sequence[Tensor] | None = None
) -> GuidedModel:
    """The guided network with as many of the conditions as the guidance needs, tensors in the network's dtype."""
    count = len(guidance.batches)
    dtype = compute_dtype(unet)
    cast = [_cast(condition, dtype) for condition in conditions[:count]]
    return GuidedModel(unet, guidance, cast, extra[:count] if extra else None)


def _cast(condition: Any, dtype: torch.dtype) -> Any:
    """Contexts and keyframes in `dtype`; masks, times and positions as they are."""
    names = [name for name in ("context", "keyframes") if hasattr(condition, name)]
    return replace(condition, **{name: getattr(condition, name).to(dtype) for name in names})


def _latent_shape(positions: Tensor) -> tuple[int, int, int]:
    return (positions.shape[0], 4, positions.shape[1])


def _whole_video(callback: Callback | None, frames: Tensor) -> Callback | None:
    """A callback that sees the video with the groups merged in, instead of the groups."""
    if callback is None:
        return None

    def report(step: int, total: int, x0: Tensor) -> Stopped | None:
        return callback(step, total, merge_groups(frames, x0))

    return report
