"""In ComfyUI each U-Net is one graph for torch.compile: a break, which Torch Compile Model passes over, fails here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.host_server import run_inside

pytestmark = [pytest.mark.host, pytest.mark.slow]


def test_hosted_networks_are_one_graph(comfyui: Any, root: Path) -> None:
    """Both U-Nets, compiled as Torch Compile Model does it, with `fullgraph`, and the same numbers."""
    script = Path(__file__).parents[1] / "helpers" / "host_one_graph.py"
    report = json.loads(run_inside(comfyui, str(script), str(root))[0].splitlines()[-1])
    print(report)
    keyframe, *more, interpolation = report["operations"]
    assert not more, "one graph each, for all steps"
    assert min(keyframe, interpolation) > 1000, "a whole network"
    assert max(report["apart"]) < 1e-4
