"""Splitting a stream of pictures into shots, with PySceneDetect's content detector."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from scenedetect import ContentDetector, FrameTimecode
from scenedetect.detector import FlashFilter

from .items import Picture

THRESHOLD = 27.0  # PySceneDetect's default: mean change of hue, saturation and brightness, of 255
SHORTEST = 8  # frames between two cuts: a flash is no cut


def cut(pictures: Iterable[Picture], longest: int, threshold: float = THRESHOLD) -> Iterator[NDArray[np.uint8]]:
    """Shots (T, H, W, 3) of 1 to `longest` frames; a longer shot is cut into pieces. A `threshold` of 0 finds no cut.

    Never more than one shot is in memory.
    """
    mode = FlashFilter.Mode.SUPPRESS  # says a cut at the frame itself; the default may say it later
    detector = ContentDetector(threshold=threshold, min_scene_len=SHORTEST, filter_mode=mode) if threshold else None
    held: list[Picture] = []
    for index, picture in enumerate(pictures):
        found = detector.process_frame(FrameTimecode(index, 24.0), picture[..., ::-1]) if detector else []
        if held and (found or len(held) == longest):
            yield np.stack(held)
            held = []
        held.append(picture)
    if held:
        yield np.stack(held)
