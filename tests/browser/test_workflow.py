"""A shipped workflow at work in ComfyUI's real web frontend, in headless Chromium. All of them: test_layouts.py."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fusionframes_core.presets import TINY
from tests.helpers.host_server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SCRIPT = Path(__file__).with_name("workflow.mjs")
WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
QUEUED = "text_to_video_tiny"
FLAWS = ("errors", "missing", "deprecated", "dialogs", "red", "wrong", "open")


def visit(chromium: str, server: Server, file: Path, out: Path, mode: str) -> dict[str, Any]:
    """Run workflow.mjs on a workflow, or on a video that carries one; its report. Pictures are left in `out`."""
    command = ["node", str(SCRIPT), server.url, str(file), chromium, str(out), mode]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    print({name: report[name] for name in FLAWS})
    return report


def flaws(report: dict[str, Any]) -> dict[str, list[str]]:
    """What is wrong on the canvas."""
    return {name: report[name] for name in FLAWS if report[name]}


def test_run_shows_a_video_that_brings_the_graph_back(chromium: str, server: Server, tmp_path: Path) -> None:
    """The Run button makes a video that the page plays; that video, dropped on the canvas, is the workflow again."""
    before = set((server.base / "output" / "video").glob("*.mp4"))
    report = visit(chromium, server, WORKFLOWS / f"{QUEUED}.json", tmp_path, "run")
    assert flaws(report) == {}
    assert report["end"]["name"] == "execution_success", report["end"]
    assert report["previews"] > 10
    seconds = 61 / (4 * TINY.fps)
    (video,) = report["videos"]
    assert video["error"] is None
    assert video["width"] == 64
    assert abs(video["seconds"] - seconds) < 0.3
    (saved,) = set((server.base / "output" / "video").glob("*.mp4")) - before
    again = visit(chromium, server, saved, tmp_path, "open")
    assert (sorted(again["nodes"]), again["links"]) == (sorted(report["nodes"]), report["links"])
    assert flaws(again) == {}


def test_cancel_button_stops_within_one_step(chromium: str, server: Server, tmp_path: Path) -> None:
    """Cancel while keyframes form ends the run as interrupted, with at most the step in progress after it."""
    report = visit(chromium, server, WORKFLOWS / f"{QUEUED}.json", tmp_path, "cancel")
    seconds = report["seconds"]
    print(f"stopped {seconds['cancel']:.2f} s after the click; the longest step took {seconds['step']:.2f} s")
    assert report["end"]["name"] == "execution_interrupted", report["end"]
    assert report["late"] <= 1
    assert seconds["cancel"] < 2 * seconds["step"] + 0.5
    assert flaws(report) == {}
