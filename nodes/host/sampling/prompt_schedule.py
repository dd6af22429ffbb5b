"""Prompts that follow one another in one video: CONDITIONINGs with masks over time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def schedule_conditionings(conditionings: list[tuple[int, Any]], num_frames: int, blend: bool) -> Any:
    """One conditioning of several, each at a keyframe; between two of them they fade, or switch at the later one."""
    places = [place for place, _ in conditionings]
    frames = torch.arange(num_frames, dtype=torch.float32)
    scheduled = []
    for index, (place, conditioning) in enumerate(conditionings):
        after = ramp(frames, places[index - 1], place, blend) if index else torch.ones(num_frames)
        last = index + 1 == len(places)
        before = torch.zeros(num_frames) if last else ramp(frames, place, places[index + 1], blend)
        weights = (after - before).view(1, num_frames, 1, 1)
        options = {"mask": weights, "mask_strength": 1.0, "set_area_to_bounds": False}
        scheduled += [[context, {**entry, **options}] for context, entry in conditioning]
    return scheduled


def ramp(frames: Tensor, start: int, stop: int, blend: bool) -> Tensor:
    """0 up to `start`, 1 from `stop` on."""
    if blend:
        return ((frames - start) / (stop - start)).clamp(0, 1)
    return (frames >= stop).float()
