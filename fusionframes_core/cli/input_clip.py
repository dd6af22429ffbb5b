"""The video that `interpolate` is given: read once before the work, so that what is wrong with it is said at once."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from ..media.frames import Frames
from ..media.sound import Sound
from ..media.timeline import Timeline, at_rate, first_pictures, resampled_count
from ..media.video_source import VideoSource


@dataclass(frozen=True)
class InputClip:
    """`count` pictures of a video at a constant rate, with its sound; `notes` say what was done to it.

    `sounds` is the number of audio streams that are wanted.
    """

    video: VideoSource
    timeline: Timeline
    rate: Fraction
    count: int
    sounds: int
    sound: Sound | None
    notes: tuple[str, ...]

    def pictures(self, size: tuple[int, int]) -> Iterator[Frames]:
        """The pictures, scaled to `size` (height, width), one after the other."""
        frames = self.video.frames(size)
        return first_pictures(at_rate(frames, self.timeline, self.rate), self.count)


def read_clip(video: VideoSource, arguments: argparse.Namespace) -> InputClip:
    """Read the video, or what of it is needed. Raises ValueError when it is damaged or has fewer than 2 frames."""
    told, wanted, most = video.facts.timeline, arguments.input_fps, arguments.max_frames
    as_it_is = not told.variable and wanted in (None, told.rate)
    timeline = video.check(most if as_it_is else None)
    rate = wanted or timeline.rate
    constant = not timeline.variable and rate == timeline.rate
    whole = timeline.count if constant else resampled_count(timeline, rate)
    shortened = most is not None and most < (told.count if as_it_is else whole)
    count = min(whole, most) if most is not None else whole
    if count < 2:
        raise ValueError(f"{video.name} must have at least 2 frames to interpolate between; it has {count}")
    sounds = 0 if arguments.no_audio else video.facts.sounds
    sound = None
    if sounds and video.path is not None:
        end = video.facts.start + float(count / rate) if shortened else None
        sound = Sound(video.path, video.facts.start, end, arguments.allow_damaged)
    return InputClip(video, timeline, rate, count, sounds, sound, tuple(_notes(video, timeline, rate, shortened)))


def _notes(video: VideoSource, timeline: Timeline, rate: Fraction, shortened: bool) -> Iterator[str]:
    if timeline.variable:
        yield f"the input's frame rate varies: its frames were taken by time, at {float(rate):g} FPS"
    elif rate != timeline.rate:
        yield f"the input's {float(timeline.rate):g} FPS were brought to {float(rate):g} FPS"
    if video.allow_damaged and not shortened and timeline.count < video.facts.declared:
        yield f"the input is damaged: {timeline.count} of {video.facts.declared} frames could be read"
