"""What the nodes share: their category and the extra keys that latents carry beside ComfyUI's `samples`."""

from __future__ import annotations

from typing import Any

from torch import Tensor

CATEGORY = "FusionFrames"

FRAME_RATE = "frame_rate"  # key of a LATENT: frames per second that its frames stand for
KEYFRAME_RATE = 2.0  # frames per second of keyframes, where nothing says otherwise


def latent(samples: Tensor, fps: float) -> dict[str, Any]:
    """A LATENT of video latents (B, 4, T, h, w) at `fps`."""
    return {"samples": samples, FRAME_RATE: fps}


def rate_of(latents: dict[str, Any]) -> float:
    """Frames per second that a LATENT stands for."""
    return float(latents.get(FRAME_RATE, KEYFRAME_RATE))
