"""Sound through ComfyUI: a video that keeps its length keeps its sound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.helpers.host_server import Server
from tests.helpers.video_files import loud_from, write_with_sound

pytestmark = [pytest.mark.host, pytest.mark.slow]

Prompt = Callable[..., dict[str, Any]]
BEEP = 0.5  # seconds


@pytest.fixture(scope="module")
def video(server: Server) -> str:
    """A second of picture in ComfyUI's input folder, whose sound begins in the middle."""
    frames = np.zeros((8, 64, 64, 3), np.uint8)
    for index, frame in enumerate(frames):
        frame[20:40, 4 + 4 * index : 24 + 4 * index] = 255
    return write_with_sound(server.base / "input" / "sound.mp4", frames, 8, beep=BEEP).name


@pytest.mark.parametrize("workflow", ["interpolate_video_tiny", "interpolate_video_x16_tiny"])
def test_interpolated_video_keeps_its_sound(server: Server, make_prompt: Prompt, video: str, workflow: str) -> None:
    """Load Video → Encode Video → Interpolate → Decode → Save Video: the sound begins when it did."""
    (file,) = server.saved_files(server.succeed(make_prompt(workflow, LoadVideo={"file": video})))
    assert loud_from(file) == pytest.approx(BEEP, abs=0.05)


def test_no_sound_where_the_speed_changes(server: Server, make_prompt: Prompt, video: str) -> None:
    import av

    prompt = make_prompt("interpolate_video_tiny", LoadVideo={"file": video}, EncodeVideo={"fps": 4.0})
    (file,) = server.saved_files(server.succeed(prompt))
    with av.open(str(file)) as container:
        assert not container.streams.audio


def test_video_without_sound_stays_without(server: Server, make_prompt: Prompt) -> None:
    import av

    (file,) = server.saved_files(server.succeed(make_prompt("interpolate_video_tiny")))
    with av.open(str(file)) as container:
        assert not container.streams.audio
