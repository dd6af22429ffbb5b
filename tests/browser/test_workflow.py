"""The shipped workflows in ComfyUI's real web frontend, in headless Chromium."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fusionframes_core.presets import TINY
from tests.host.harness import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SCRIPT = Path(__file__).with_name("workflow.mjs")
WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
QUEUED = "text_to_video_tiny"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def chromium() -> str:
    """A Chromium, given Node.js and playwright-core to drive it with."""
    found = os.environ.get("CHROMIUM_PATH") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium: install one or set CHROMIUM_PATH")
    if shutil.which("node") is None:
        pytest.skip("no Node.js on PATH")
    asked = subprocess.run(["node", "-e", "require('playwright-core')"], capture_output=True, check=False)
    if asked.returncode:
        pytest.skip("no playwright-core: `npm install playwright-core` somewhere and set NODE_PATH to its node_modules")
    return found


def open_workflow(chromium: str, server: Server, file: Path, out: Path, *extra: str) -> dict[str, Any]:
    """Run workflow.mjs on a workflow, or on a video that carries one; its report."""
    command = ["node", str(SCRIPT), server.url, str(file), chromium, str(out), *extra]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def opens_clean(report: dict[str, Any]) -> bool:
    """No missing node, no dialog, no value out of range, no error in the console."""
    print({name: report[name] for name in ("missing", "wrong", "dialogs", "errors")})
    return not any(report[name] for name in ("missing", "wrong", "dialogs", "errors"))


@pytest.mark.parametrize("name", sorted(file.stem for file in WORKFLOWS.glob("*.json") if file.stem != QUEUED))
def test_opens(chromium: str, server: Server, tmp_path: Path, name: str) -> None:
    """Dropped on the canvas every workflow is whole."""
    report = open_workflow(chromium, server, WORKFLOWS / f"{name}.json", tmp_path, "open")
    assert opens_clean(report)
    assert len(report["nodes"]) == len(json.loads((WORKFLOWS / f"{name}.json").read_text())["nodes"])


def test_drop_and_queue(chromium: str, server: Server, tmp_path: Path) -> None:
    """Dropped on the canvas it opens clean; queued it shows a video; that video, dropped, brings the graph back."""
    report = open_workflow(chromium, server, WORKFLOWS / f"{QUEUED}.json", tmp_path)
    assert len(report["nodes"]) >= 6
    assert opens_clean(report)
    assert report["end"]["name"] == "execution_success", report["end"]
    assert report["previews"] > 10
    seconds = 61 / (4 * TINY.fps)
    assert any(video["width"] == 64 and abs(video["seconds"] - seconds) < 0.3 for video in report["videos"])
    (saved,) = (server.base / "output" / "video").glob("FusionFrames*.mp4")
    again = open_workflow(chromium, server, saved, tmp_path, "open")
    assert sorted(again["nodes"]) == sorted(report["nodes"])
    assert opens_clean(again)


def test_cancel_from_the_page(chromium: str, server: Server, tmp_path: Path) -> None:
    """Cancel while keyframes form ends the run as interrupted."""
    report = open_workflow(chromium, server, WORKFLOWS / f"{QUEUED}.json", tmp_path, "cancel")
    assert report["end"]["name"] == "execution_interrupted", report["end"]
    assert report["errors"] == []
