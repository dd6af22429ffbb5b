"""Reading back what a server saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from fusionframes_core.media.write_video import write_video


def read_video(file: Path) -> tuple[np.ndarray, float]:
    """Frames (T, H, W, 3) uint8 BGR and frames per second."""
    video = cv2.VideoCapture(str(file))
    frames = []
    while (answer := video.read())[0]:
        frames.append(answer[1])
    return np.stack(frames), video.get(cv2.CAP_PROP_FPS)


def read_images(files: Sequence[Path]) -> np.ndarray:
    """Images (N, H, W, 3) uint8 BGR, by name."""
    return np.stack([cv2.imread(str(file)) for file in sorted(files)])


def moving_square(count: int = 5, size: int = 64) -> np.ndarray:
    """Frames (T, H, W, 3) uint8 of a white square that moves."""
    frames = np.zeros((count, size, size, 3), np.uint8)
    for index, frame in enumerate(frames):
        frame[20:40, 4 + 6 * index : 24 + 6 * index] = 255
    return frames


def put_square(folder: Path) -> None:
    """square.mp4 (5 frames, 8 a second) and its ends, first_square.png and last_square.png, into an input folder."""
    frames = moving_square()
    for name, frame in (("first_square.png", frames[0]), ("last_square.png", frames[-1])):
        cv2.imwrite(str(folder / name), frame)
    write_video(frames, folder / "square.mp4", 8.0)
