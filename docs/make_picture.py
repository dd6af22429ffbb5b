"""The animated picture at the top of README: six videos of the bundled model under their prompts.

`python docs/make_picture.py` writes docs/tiny.webp.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from fusionframes_core.media.frames import enlarge, to_uint8
from fusionframes_core.pipeline import FusionFramesPipeline

PROMPTS = (
    "a large red circle moving left",
    "a small blue star moving up",
    "a large green square bouncing left and right",
    "a small yellow triangle circling",
    "a large purple star growing",
    "a large orange star spinning slowly",
)
COLUMNS, SCALE, MARGIN, CAPTION = 3, 3, 12, 26  # pixels, but for the number of columns
PAPER, INK = 255, (70, 70, 70)
QUALITY = 85  # of WebP, of 100


def captioned(frames: np.ndarray, prompt: str) -> np.ndarray:
    """Frames (T, H, W, 3) uint8 with a margin around them and the prompt below."""
    edges = ((0, 0), (MARGIN, CAPTION), (MARGIN, MARGIN), (0, 0))
    framed = np.pad(enlarge(frames, SCALE), edges, constant_values=PAPER)
    baseline = framed.shape[1] - CAPTION + 17
    for frame in framed:
        cv2.putText(frame, prompt, (MARGIN, baseline), cv2.FONT_HERSHEY_SIMPLEX, 0.36, INK, 1, cv2.LINE_AA)
    return framed


def grid(videos: list[np.ndarray]) -> np.ndarray:
    """Videos of one size in rows of `COLUMNS`: (T, H, W, 3)."""
    rows = [np.concatenate(videos[start : start + COLUMNS], axis=2) for start in range(0, len(videos), COLUMNS)]
    return np.concatenate(rows, axis=1)


def write_webp(frames: np.ndarray, path: Path, fps: float) -> None:
    """Write frames (T, H, W, 3) uint8 as an animated WebP that repeats."""
    animation = cv2.Animation()
    animation.frames = [np.ascontiguousarray(frame[..., ::-1]) for frame in frames]
    animation.durations = np.full(len(frames), round(1000 / fps), dtype=np.int32)
    if not cv2.imwriteanimation(str(path), animation, [cv2.IMWRITE_WEBP_QUALITY, QUALITY]):
        raise OSError(f"cannot write {path}")


def main() -> None:
    pipeline = FusionFramesPipeline.from_pretrained("tiny")
    results = {prompt: pipeline(prompt, seed=1, passes=1) for prompt in PROMPTS}
    videos = [captioned(to_uint8(result.frames[0]), prompt) for prompt, result in results.items()]
    path = Path(__file__).with_name("tiny.webp")
    write_webp(grid(videos), path, results[PROMPTS[0]].fps)
    print(f"{path.name}: {path.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()
