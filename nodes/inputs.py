"""Inputs that several sampling nodes share, and the checks that ComfyUI itself does not make."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from comfy_api.latest import io

from ..fusionframes_core.checkpoints.temporal_blocks import TEMPORAL_CHOICES
from ..fusionframes_core.settings import (
    DEFAULT_MOTION,
    MAX_KEYFRAMES,
    MAX_MOTION,
    MAX_SEED,
    MAX_SKIP_FRAMES,
    MAX_STILL_NOISE,
    MOTION_SCORES,
    motion_score,
)
from . import host

SIDE_STEP, SIDE_MAX = 16, 2048  # pixels; what every model can make: the decoder's factor 8, one halving in the U-Net
MAX_FPS = 240.0
NUMBER = "number"  # of `motion`


def side(name: str, default: int = 64, least: int = SIDE_STEP, tooltip: str | None = None) -> io.Input:
    """Width or height in pixels."""
    return io.Int.Input(
        name,
        default=default,
        min=least,
        max=SIDE_MAX,
        step=SIDE_STEP,
        tooltip=tooltip
        or f"The video's {name} in pixels, a multiple of {SIDE_STEP}. Models are best at the size they were trained "
        "with (tiny: 64).",
    )


def check_size(width: int, height: int, least: int = SIDE_STEP) -> None:
    """Raise ValueError unless both sides are what `side` offers; ComfyUI itself checks no steps."""
    if not all(least <= value <= SIDE_MAX and value % SIDE_STEP == 0 for value in (width, height)):
        raise ValueError(
            f"width and height must be multiples of {SIDE_STEP} from {SIDE_STEP} to {SIDE_MAX} pixels; "
            f"got {width}×{height}"
        )


class Sized(io.ComfyNode):
    """A node with a width and a height, of which ComfyUI itself checks no steps."""

    least: ClassVar[int] = SIDE_STEP

    @classmethod
    def validate_inputs(cls, width: int = SIDE_STEP, height: int = SIDE_STEP) -> bool | str:
        """True, or one sentence for a size that no model can make."""
        return host.sentence(check_size, width, height, cls.least)


def num_frames(default: int) -> io.Input:
    """Number of keyframes."""
    return io.Int.Input(
        "num_frames",
        default=default,
        min=1,
        max=MAX_KEYFRAMES,
        tooltip="Number of keyframes. Models are best at the number they were trained with (tiny: 16); "
        "interpolation needs at least 2.",
    )


def seed() -> io.Input:
    """The seed, as ComfyUI's samplers have it."""
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=MAX_SEED,
        control_after_generate=True,
        tooltip="The same seed gives the same video, on every device.",
    )


def steps(default: int) -> io.Input:
    """Number of denoising steps."""
    return io.Int.Input(
        "steps", default=default, min=1, max=1000, tooltip="Denoising steps. More take longer and gain little past 50."
    )


def cfg(default: float, maximum: float, tooltip: str) -> io.Input:
    """Guidance in ComfyUI's convention, 1 + w."""
    return io.Float.Input("cfg", default=default, min=1.0, max=maximum, step=0.05, round=0.001, tooltip=tooltip)


def check_cfg(value: float, least: float = 1.0) -> float:
    """The value. Raises ValueError for NaN, which passes ComfyUI's own check of the range."""
    if not math.isfinite(value):
        raise ValueError(f"cfg must be a finite number of at least {least:g}; got {value}")
    return value


def sampler() -> io.Input:
    """The sampler's name."""
    return io.Combo.Input(
        "sampler",
        options=host.sampler_names(),
        default=host.DEFAULT,
        tooltip="How noise becomes latents. 'record' is the sampler that the model's makers used; every sampler of "
        "ComfyUI works.",
    )


def scheduler() -> io.Input:
    """The scheduler's name."""
    return io.Combo.Input(
        "scheduler",
        options=host.scheduler_names(),
        default=host.DEFAULT,
        tooltip="At which noise levels the steps are taken. 'record' is what the model's makers used.",
    )


def skip_frames() -> io.Input:
    """The skip-frame number of an interpolation pass."""
    return io.Int.Input(
        "skip_frames",
        default=3,
        min=1,
        max=MAX_SKIP_FRAMES,
        tooltip="How far apart the new frames are in time, in frames of full-speed video: 3 for the first pass over "
        "keyframes, 1 for a pass over interpolated frames.",
    )


def perturbation(maximum: int) -> io.Input:
    """Noise on the given frames of an interpolation pass."""
    return io.Int.Input(
        "perturbation",
        default=0,
        min=0,
        max=maximum,
        tooltip="Noise on the given frames, in diffusion steps: lets the new frames smooth over flaws in them. 0 "
        "trusts them fully.",
    )


def precision() -> io.Input:
    """Number format of the weights."""
    return io.Combo.Input(
        "precision",
        options=list(host.PRECISIONS),
        default=host.AUTO,
        tooltip="Number format of the weights. 'auto' takes what ComfyUI chooses for the device; 'fp8' halves the "
        "U-Nets once more, everything else is bf16 then.",
    )


def temporal_blocks(auto: str = "of the file") -> io.Input:
    """Which temporal parts a keyframe U-Net works with."""
    return io.Combo.Input(
        "temporal_blocks",
        options=list(TEMPORAL_CHOICES),
        default=host.AUTO,
        optional=True,
        tooltip=f"How keyframes see each other (paper section 4.1). 'auto': those {auto}. 'none': not at all, the "
        "image U-Net. Any other name needs temporal_<name>.safetensors beside the keyframe U-Net.",
    )


def motion() -> list[io.Input]:
    """1.1's amount of motion, by name or as a number."""
    return [
        io.Combo.Input(
            "motion",
            options=[*MOTION_SCORES, NUMBER],
            default=DEFAULT_MOTION,
            tooltip=f"How much moves. '{NUMBER}' takes motion_score instead.",
        ),
        io.Float.Input(
            "motion_score",
            default=float(MOTION_SCORES[DEFAULT_MOTION]),
            min=0.0,
            max=float(MAX_MOTION),
            step=1.0,
            tooltip=f"The amount of motion as a number, when motion is '{NUMBER}': "
            f"{', '.join(f'{name} is {score}' for name, score in MOTION_SCORES.items())}.",
        ),
    ]


def score_of(motion: str, number: float) -> float:
    """The score that the inputs of `motion` mean. Raises ValueError for a number that is none."""
    return motion_score(number if motion == NUMBER else motion)


def noise_augmentation(default: int) -> io.Input:
    """Noise on the first frame."""
    return io.Int.Input(
        "noise_augmentation",
        default=default,
        min=0,
        max=MAX_STILL_NOISE,
        tooltip="Noise on the first frame, in diffusion steps: more lets the video leave it sooner.",
    )


def text(tooltip: str) -> Any:
    """An optional prompt for models whose interpolation reads it."""
    return io.Conditioning.Input("text", optional=True, tooltip=tooltip)
