"""One ComfyUI server for every test in this room."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fusionframes_core.media.write_video import write_video
from tests.helpers.host_server import Listener, Server, api_prompt

WORKFLOW = "text_to_video_tiny"

Prompt = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def server(comfyui: Any, root: Path) -> Iterator[Server]:
    """ComfyUI with the pack, on the CPU, and the inputs that the workflows name."""
    with Server(comfyui.path, comfyui.python, root) as running:
        frames = moving_square()
        for name, frame in (("first.png", frames[0]), ("last.png", frames[-1])):
            cv2.imwrite(str(running.base / "input" / name), frame)
        write_video(frames, running.base / "input" / "video.mp4", 8.0)
        yield running


def moving_square(count: int = 5, size: int = 64) -> np.ndarray:
    """Frames (T, H, W, 3) uint8 of a white square that moves."""
    frames = np.zeros((count, size, size, 3), np.uint8)
    for index, frame in enumerate(frames):
        frame[20:40, 4 + 6 * index : 24 + 6 * index] = 255
    return frames


@pytest.fixture(scope="session")
def listener(server: Server) -> Listener:
    """What the server tells its client, from now on."""
    return Listener(server)


@pytest.fixture(scope="session")
def make_prompt(server: Server, root: Path) -> Prompt:
    """A shipped workflow as an API prompt; arguments by node class: `make_prompt(SampleKeyframes={"steps": 5})`."""
    node_info = server.get("/object_info")

    def make(workflow: str = WORKFLOW, **changes: dict[str, Any]) -> dict[str, Any]:
        prompt = api_prompt(json.loads((root / "workflows" / f"{workflow}.json").read_text()), node_info)
        for name, inputs in changes.items():
            nodes = [node for node in prompt.values() if node["class_type"] in (name, f"FusionFrames_{name}")]
            assert nodes, f"the workflow has no {name}"
            for node in nodes:
                node["inputs"].update(inputs)
        return prompt

    return make
