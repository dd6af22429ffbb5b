"""Reading back what a server saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np


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
