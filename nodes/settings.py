"""Inputs that several sampling nodes share, and their translation to fusionframes_core's arguments."""

from __future__ import annotations

import math
from typing import Any

from comfy_api.latest import io

from ..fusionframes_core.sampling.sampler import SAMPLERS
from ..fusionframes_core.settings import MAX_SEED

SIDE_STEP, SIDE_MAX = 16, 2048  # pixels; what every model can make: the decoder's factor 8, one halving in the U-Net


def side(name: str) -> io.Input:
    """Width or height in pixels."""
    return io.Int.Input(
        name,
        default=64,
        min=SIDE_STEP,
        max=SIDE_MAX,
        step=SIDE_STEP,
        tooltip=f"The video's {name} in pixels, a multiple of {SIDE_STEP}. Models are best at the size they were "
        "trained with (tiny: 64).",
    )


def check_size(width: int, height: int) -> None:
    """Raise ValueError unless both sides are what `side` offers; ComfyUI itself checks no steps."""
    if not all(SIDE_STEP <= value <= SIDE_MAX and value % SIDE_STEP == 0 for value in (width, height)):
        raise ValueError(
            f"width and height must be multiples of {SIDE_STEP} from {SIDE_STEP} to {SIDE_MAX} pixels; "
            f"got {width}×{height}"
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


def sampler() -> io.Input:
    """The sampler's name."""
    return io.Combo.Input(
        "sampler",
        options=list(SAMPLERS),
        default="ddim",
        tooltip="How noise becomes latents: ddim and dpmpp_2m are quick, ddpm is the official 1.0 sampler and wants "
        "more steps.",
    )


def to_core(inputs: dict[str, Any]) -> dict[str, Any]:
    """The nodes' inputs by fusionframes_core's names: cfg is 1 + the guidance weight w. ValueError for a cfg of NaN."""
    cfg_value = inputs["cfg"]
    if not math.isfinite(cfg_value):  # NaN passes ComfyUI's own check of the range
        raise ValueError(f"cfg must be a finite number of at least 1; got {cfg_value}")
    core = {name: value for name, value in inputs.items() if name != "cfg"}
    return {**core, "guidance": cfg_value - 1.0}
