"""What is made of a video."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from .items import SAME_RATE, Buckets, Rate, Size, VideoError

KEEP = ("latents", "pixels")
TOO_SLOW = "too slow"
MIN_FPS, MAX_FPS = 0.01, 1000.0


@dataclass(frozen=True)
class Recipe:
    """What is made of a video. Frames count after resampling to `fps` (None: as they are)."""

    size: Size  # height, width
    keep: tuple[str, ...] = ("latents",)
    fps: float | None = None
    min_frames: int = 33
    max_frames: int = 720
    threshold: float = 27.0
    model: str = "tiny"
    device: str = "cpu"
    batch: int = 16  # frames encoded at once
    allow_slow: bool = False  # use videos whose own rate is below `fps`, as they are
    buckets: tuple[Size, ...] = ()  # instead of `size`: each video takes the nearest of these shapes

    def __post_init__(self) -> None:
        if not self.keep or not set(self.keep) <= set(KEEP):
            raise ValueError(f"keep must name one or both of {', '.join(KEEP)}; got {self.keep!r}")
        if not 1 <= self.min_frames <= self.max_frames:
            raise ValueError(f"min_frames must be from 1 to max_frames; got {self.min_frames} and {self.max_frames}")
        if self.fps is not None and not MIN_FPS <= self.fps <= MAX_FPS:
            raise ValueError(f"fps must be from {MIN_FPS:g} to {MAX_FPS:g}; got {self.fps:g}")
        if not 0 <= self.threshold < math.inf:
            raise ValueError(f"threshold must be a finite number of at least 0; got {self.threshold:g}")

    @property
    def shape(self) -> Size | Buckets:
        """What videos are brought to."""
        return Buckets(self.buckets) if self.buckets else self.size

    def is_too_slow(self, rate: float) -> bool:
        """Whether a video of this rate (FPS) is left out, since it lacks frames that were asked for."""
        return self.fps is not None and not self.allow_slow and rate < self.fps * SAME_RATE

    def check_rate(self, rate: Rate) -> None:
        """Raise VideoError for a video of a rate that is too slow."""
        if self.is_too_slow(rate.fps):
            raise VideoError(f"{TOO_SLOW}: its own rate is {rate.in_words}{',' * rate.varies} of {self.fps:.5g}")

    @property
    def settings(self) -> dict[str, Any]:
        """What must not change in a folder: device and batch do not matter, `allow_slow` decides per video."""
        made = asdict(self)
        made["size"] = made["buckets"] or made["size"]
        for name in ("device", "batch", "allow_slow", "buckets"):
            del made[name]
        return made
