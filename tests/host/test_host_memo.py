"""In ComfyUI the text is projected once in a sampling, anew where weights or text change, and nothing stays behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.host_server import run_inside

pytestmark = [pytest.mark.host, pytest.mark.slow]


def test_the_text_is_projected_once(comfyui: Any, root: Path) -> None:
    script = Path(__file__).parents[1] / "helpers" / "host_memo.py"
    report = json.loads(run_inside(comfyui, str(script), str(root))[0].splitlines()[-1])
    print(report)
    keyframe, interpolation = report["layers"]
    assert report["calls"] == [keyframe, keyframe, interpolation, keyframe], "once in each sampling"
    assert report["without"] == 3 * keyframe, "in each step"
    assert report["hooked"] >= 3 * keyframe, "a hook may change the weights in any step"
    assert report["kept"] == [0, 0], "nothing stays behind"
    first, again, video, patched = report["apart"]
    assert first == again == patched == 0.0
    assert video < 1e-5, "the half of guidance without temporal layers skips them"
    assert report["lora"] > 1e-4, "a LoRA's keys are its own"
