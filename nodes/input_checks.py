"""Checks of inputs that ComfyUI itself does not make."""

from __future__ import annotations

import math

SIDE_STEP, SIDE_MAX = 16, 2048  # pixels; what every model can make: the decoder's factor 8, one halving in the U-Net


def check_size(width: int, height: int) -> None:
    """Raise ValueError unless both sides are what `side` offers; ComfyUI itself checks no steps."""
    if not all(0 <= value <= SIDE_MAX and value % SIDE_STEP == 0 for value in (width, height)):
        raise ValueError(
            f"width and height must be 0 or multiples of {SIDE_STEP} from {SIDE_STEP} to {SIDE_MAX} pixels; "
            f"got {width}×{height}"
        )


def check_cfg(value: float) -> None:
    """Raise ValueError for NaN, which passes ComfyUI's own check of the range, and for what is neither 0 nor a cfg."""
    if not math.isfinite(value) or (value < 1 and value != 0):
        raise ValueError(f"cfg must be 0 (the model's own) or a finite number of at least 1; got {value}")


def check_weight(name: str, value: float) -> None:
    """The same for a weight, where −1 is the model's own."""
    if not math.isfinite(value) or (value < 0 and value != -1):
        raise ValueError(f"{name} must be -1 (the model's own) or a finite number of at least 0; got {value}")


def check_denoise(value: float, latents: object) -> None:
    """Raise ValueError for a denoise that leaves something of a video where there is no video."""
    if latents is None and value != 1:
        raise ValueError(f"denoise must be 1 where no latents are connected to change; got {value}")
