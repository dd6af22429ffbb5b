"""One ComfyUI server for every test in this room."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.host_server import Listener, Server, api_prompt

WORKFLOW = "text_to_video_tiny"

Prompt = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def server(comfyui: Any, root: Path) -> Iterator[Server]:
    """ComfyUI with the pack, on the CPU."""
    with Server(comfyui.path, comfyui.python, root) as running:
        yield running


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
