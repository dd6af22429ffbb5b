"""How much a video moves and how steadily, without another one to compare it with."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
from numpy.typing import NDArray

MEASURES = {
    "change": "mean change from frame to frame, 8-bit levels",
    "flicker": "mean second difference of the frames, 8-bit levels: 0 for what changes evenly",
    "flow": "mean length of the optical flow, pixels a frame",
    "warp_error": "mean error of each frame against the one before it moved along the flow, 8-bit levels",
}


def movement(video: NDArray[np.uint8]) -> dict[str, float]:
    """MEASURES of frames (T, H, W, 3), T ≥ 3; the flow is OpenCV's (DIS). Raises ValueError for fewer frames."""
    if len(video) < 3:
        raise ValueError(f"video must have at least 3 frames; got {len(video)}")
    levels = video.astype(np.float32)
    lengths, errors = zip(*(_flow(a, b) for a, b in itertools.pairwise(video)), strict=True)
    return {
        "change": float(np.abs(np.diff(levels, axis=0)).mean()),
        "flicker": float(np.abs(np.diff(levels, n=2, axis=0)).mean()),
        "flow": float(np.mean(lengths)),
        "warp_error": float(np.mean(errors)),
    }


def _flow(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean length of the flow from `after` back to `before`, and the error of `before` warped along it."""
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (after, before)]
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*grey, None)  # type: ignore[call-overload]
    rows, columns = np.indices(flow.shape[:2], dtype=np.float32)
    warped = cv2.remap(
        before, columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    error = np.abs(warped.astype(np.float32) - after.astype(np.float32)).mean()
    return float(np.linalg.norm(flow, axis=-1).mean()), float(error)
