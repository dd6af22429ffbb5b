"""The nodes against the same work in core: at most 5 % more processor time, and at most 5 % more memory."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.helpers.host_server import run_inside

pytestmark = [pytest.mark.host, pytest.mark.slow]

SCRIPT = Path(__file__).resolve().parents[1] / "helpers" / "overhead.py"
MOST = 1.05
STAGES = ("keyframes", "interpolation", "interpolation without guidance", "decoding 61 frames", "decoding 241 frames")
CHUNK_BYTES = 16 * 3 * 64 * 64 * 4  # what a chunk of 16 frames is when it is done


def measure(comfyui: Any, root: Path, repeats: int, *stages: str) -> dict[str, Any]:
    """What overhead.py reports, run in ComfyUI's interpreter on one thread."""
    output, _ = run_inside(comfyui, str(SCRIPT), str(root), str(repeats), *stages, seconds=900)
    return json.loads(output.splitlines()[-1])


def test_nodes_hold_no_more(comfyui: Any, root: Path) -> None:
    """In every stage tensors hold at most 5 % more than in core."""
    report = measure(comfyui, root, 0, *STAGES)
    ratios = {stage: found["bytes"][0] / found["bytes"][1] for stage, found in report.items()}
    print({stage: f"{found['bytes']} {ratios[stage]:.3f}" for stage, found in report.items()})
    assert all(ratio <= MOST for ratio in ratios.values()), ratios


def test_long_decoding_holds_two_chunks(comfyui: Any, root: Path) -> None:
    """Beside the frames themselves 241 frames take no more than two chunks' work: here, twice what 16 frames take."""
    report = measure(comfyui, root, 0, "decoding 16 frames", "decoding 241 frames")
    short, long = (found["bytes"][0] for found in report.values())
    one_chunk = short - CHUNK_BYTES
    beside = long - CHUNK_BYTES // 16 * 241
    print(f"one chunk's activations {one_chunk / 1e6:.2f} MB; 241 frames beside the video {beside / 1e6:.2f} MB")
    assert beside <= 2 * one_chunk


def test_nodes_take_no_longer(comfyui: Any, root: Path) -> None:
    """From a prompt to 61 frames: the middle one of several runs by turns, in processor time."""
    (found,) = measure(comfyui, root, 7, "prompt to 61 frames").values()
    ratios = [ours / core for ours, core in found["seconds"]]
    print(f"nodes / core: {median(ratios):.3f} of {[f'{ratio:.3f}' for ratio in ratios]}")
    assert median(ratios) <= MOST
