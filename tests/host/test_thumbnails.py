"""The pictures of ComfyUI's template browser: frames of what a workflow of the bundled model makes as it ships.

`make thumbnails` writes them anew, after its weights or its workflows change.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.helpers.host_media import read_video
from tests.helpers.host_server import Server
from tests.host.test_workflows import WIDTHS, WORKFLOWS

pytestmark = [pytest.mark.host, pytest.mark.slow]

GAP, PAPER, QUALITY = 4, 29, 88
PICTURES, PIXELS = (2, 4), 128  # rows and columns, and a picture's height and width
STRIPS = 4  # of a video of several side by side: frames one below the other
MOST_BYTES, CLOSE = 30_000, 2.5  # levels of 256 on average: JPEG, and sums in another order on another processor


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_thumbnail_shows_what_its_workflow_makes(
    server: Server, make_prompt: Callable[..., dict[str, Any]], root: Path, tmp_path: Path, name: str
) -> None:
    (file,) = server.saved_files(server.succeed(make_prompt(name)))
    made = strips(read_video(file)[0]) if name in WIDTHS else contact_sheet(read_video(file)[0])
    kept = bool(os.environ.get("FUSIONFRAMES_THUMBNAILS"))
    picture = (root / "workflows" if kept else tmp_path) / f"{name}.jpg"
    assert cv2.imwrite(str(picture), made, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert picture.stat().st_size < MOST_BYTES
    if not kept:
        shipped = cv2.imread(str(root / "workflows" / picture.name))
        assert shipped.shape == made.shape
        difference = np.abs(shipped.astype(float) - made).mean()
        print(f"{name}.jpg differs by {difference:.2f} levels from what its workflow makes")
        assert difference < CLOSE


def contact_sheet(frames: np.ndarray) -> np.ndarray:
    """Frames (T, H, W, 3) at even times in `PICTURES` rows and columns."""
    rows, columns = PICTURES
    chosen = [
        cv2.resize(frame, (PIXELS, PIXELS), interpolation=cv2.INTER_CUBIC) for frame in pick(frames, rows * columns)
    ]
    return joined([joined(chosen[row * columns : (row + 1) * columns], axis=1) for row in range(rows)], axis=0)


def strips(frames: np.ndarray) -> np.ndarray:
    """Frames (T, H, W, 3) of several videos side by side, one below the other, as wide as a contact sheet."""
    width = PICTURES[1] * (PIXELS + GAP) - GAP
    height = round(frames.shape[1] * width / frames.shape[2])
    chosen = [cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC) for frame in pick(frames, STRIPS)]
    return joined(chosen, axis=0)


def pick(frames: np.ndarray, count: int) -> np.ndarray:
    """`count` of the frames, the first and the last among them."""
    return frames[np.linspace(0, len(frames) - 1, count).round().astype(int)]


def joined(pictures: list[np.ndarray], axis: int) -> np.ndarray:
    """Pictures (H, W, 3) in a row (axis 1) or a column, with a line between them."""
    line = np.full_like(pictures[0].take(range(GAP), axis), PAPER)
    parts = [part for picture in pictures for part in (line, picture)][1:]
    return np.concatenate(parts, axis=axis)
