"""The pictures and the video that `generate` is told to begin with."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
from torch import Tensor

from ..config import ModelConfig
from ..given_keyframes import Beginning
from ..media.frames import to_pixels
from ..media.read_video import open_video, read_video
from ..media.timeline import first_pictures, resampled_count
from ..media.video_source import VideoSource
from ..pipeline import FusionFramesPipeline
from ..sampling.guides import Guide, place_of
from ..settings import ResolvedSettings


def check_beginning(settings: ResolvedSettings, config: ModelConfig, arguments: argparse.Namespace) -> ResolvedSettings:
    """The settings, with as many keyframes as the video has at their rate, if it has fewer than are asked for.

    Raises ValueError for files that are missing and for what the model does not take, before any model is loaded.
    """
    given = [name for name in ("guide", "video") if getattr(arguments, name)]
    if given and config.keyframe.image_input:
        raise ValueError(f"{given[0]} must be left out: {config.name} begins with an image; use --image")
    if arguments.video is None and settings.denoise < 1:
        raise ValueError(f"denoise must be 1 where no video is given; got {settings.denoise:g}")
    if arguments.video is not None:
        count = _count_keyframes(open_video(arguments.video), _rate_of(config), settings.num_frames)
        settings = replace(settings, num_frames=count)
    taken: dict[int, str] = {}
    for path, index, strength in arguments.guide:
        open_video(path)
        place = place_of(Guide(Tensor(), index, strength, arguments.pull), settings.num_frames)
        if place in taken:
            raise ValueError(
                f"--guide must name each keyframe once; {taken[place]} and {path}@{index} are both keyframe {place} of "
                f"{settings.num_frames}"
            )
        taken[place] = f"{path}@{index}"
    settings.validate(config)
    return settings


def _rate_of(config: ModelConfig) -> Fraction:
    """Keyframes a second."""
    return Fraction(config.fps).limit_denominator(1001)


def _count_keyframes(video: VideoSource, rate: Fraction, most: int) -> int:
    """How many keyframes there are in a video, or the `most`. What they are taken from is read, so that what is wrong
    with it is said at once."""
    told = video.facts.timeline
    as_told = resampled_count(told, rate)
    all_of_it = told.variable or as_told <= most
    read = video.check(None if all_of_it else math.ceil(most / rate * told.rate))
    return min(resampled_count(read, rate) if all_of_it else as_told, most)


def read_beginning(
    pipeline: FusionFramesPipeline, settings: ResolvedSettings, arguments: argparse.Namespace
) -> Beginning:
    """The video's latents, frames taken by time at the keyframes' rate, and the guides."""
    latents = None
    if arguments.video is not None:
        rate = _rate_of(pipeline.config)
        pictures = first_pictures(open_video(arguments.video).pictures(rate, settings.size), settings.num_frames)
        latents = pipeline.encode(to_pixels(np.stack(list(pictures)))[None])
    guides = []
    for path, index, strength in arguments.guide:
        frames, _ = read_video(path, max_frames=1)
        picture = to_pixels(frames)[None, :, 0]
        guides.append(pipeline.guide(picture, index, strength, arguments.pull, settings.size))
    return Beginning(latents, guides)
