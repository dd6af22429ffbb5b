"""Frames of ComfyUI's VIDEO and IMAGE, a few at a time, and their sound."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from comfy_api.latest import InputImpl
from torch import Tensor

from ....fusionframes_core.media.frame_choice import FrameChoice, take
from ....fusionframes_core.media.read_sound import Samples, read_sound

IMAGE_RATE = 8.0  # frames per second of images that do not say
WINDOW_BYTES = 512e6  # of a video file's frames are in memory at once, or what 8 frames take
WINDOW_STEP = 8  # frames
FRAME_BYTES = 2 * 3 * 4  # for each pixel: ComfyUI's float32 frames, and once more while they are put together


@dataclass(frozen=True)
class HostFrames:
    """IMAGE frames in `pieces` (N, H, W, 3), how many a second, and what gives their AUDIO, if any."""

    pieces: Iterator[Tensor]
    rate: float
    audio: Callable[[], Any | None]


def frames_of(video: Any | None, images: Tensor | None, choice: FrameChoice, fps: float = 0.0) -> HostFrames:
    """The chosen frames of a VIDEO, or of an IMAGE batch, whose rate is `fps` if that is given.

    Of a video file no more than a window is in memory. There is no sound where `fps` changes the speed. Raises
    ValueError unless one of both is given.
    """
    if (video is None) == (images is None):
        raise ValueError("connect either video or images")
    source = _source(video) if images is None else HostFrames(iter((images,)), IMAGE_RATE, lambda: None)
    rate = fps or source.rate
    made = (choice.rate or rate) / choice.every
    counted = _Counted(take(source.pieces, choice.places(rate)))

    def audio() -> Any | None:
        sound = source.audio() if rate == source.rate else None
        if sound is None or choice.is_whole:
            return sound
        samples = Samples(sound["waveform"][0].numpy(), sound["sample_rate"])
        return _audio(samples.between(choice.skip / (choice.rate or rate), counted.count / made))

    return HostFrames(iter(counted), made, audio)


class _Counted:
    """Pieces, and how many frames they had."""

    def __init__(self, pieces: Iterator[Tensor]) -> None:
        self.pieces, self.count = pieces, 0

    def __iter__(self) -> Iterator[Tensor]:
        for piece in self.pieces:
            self.count += len(piece)
            yield piece


def _source(video: Any) -> HostFrames:
    """Every frame of a VIDEO."""
    windows = _windows(video) if isinstance(video, InputImpl.VideoFromFile) else []
    if len(windows) > 1:
        return HostFrames(_decoded(windows), float(video.get_frame_rate()), lambda: _sound_of(video))
    components = video.get_components()
    return HostFrames(iter((components.images,)), float(components.frame_rate), lambda: components.audio)


def _windows(video: Any) -> list[Any]:
    """A video file as the videos of its windows, one after the other; the last one has no end of its own.

    They meet halfway between two frames, so that each frame is in one.
    """
    width, height = video.get_dimensions()
    frames = max(1, int(WINDOW_BYTES / (width * height * FRAME_BYTES) / WINDOW_STEP)) * WINDOW_STEP
    rate, length, (start, duration) = float(video.get_frame_rate()), video.get_duration(), _trim(video)
    count = max(1, math.ceil(length * rate / frames))
    edges = [start, *(start + (index * frames - 0.5) / rate for index in range(1, count))]
    ends = [*edges[1:], start + duration if duration else None]
    file = video.get_stream_source()
    return [
        InputImpl.VideoFromFile(file, start_time=edge, duration=0 if end is None else end - edge)
        for edge, end in zip(edges, ends, strict=True)
    ]


def _decoded(windows: list[Any]) -> Iterator[Tensor]:
    for window in windows:
        images = window.get_components().images
        if len(images):
            yield images


def _sound_of(video: Any) -> Any | None:
    samples = read_sound(video.get_stream_source())
    if samples is None:
        return None
    start, duration = _trim(video)
    return _audio(samples.between(start, duration or None) if start or duration else samples)


def _audio(samples: Samples) -> Any:
    return {"waveform": torch.from_numpy(samples.waveform.copy())[None], "sample_rate": samples.rate}


def _trim(video: Any) -> tuple[float, float]:
    """(start, duration) in seconds of the part of its file that a video is; duration 0: to the end."""
    if hasattr(video, "get_active_trim_window"):  # since 0.27
        return video.get_active_trim_window()
    kept = vars(video)
    return float(kept.get("_VideoFromFile__start_time", 0)), float(kept.get("_VideoFromFile__duration", 0))
