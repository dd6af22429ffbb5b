"""The shipped workflow in ComfyUI's real web frontend, in headless Chromium."""

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


def open_workflow(chromium: str, server: Server, root: Path, out: Path, *extra: str) -> dict[str, Any]:
    """Run workflow.mjs; its report."""
    workflow = str(root / "workflows" / "text_to_video_tiny.json")
    command = ["node", str(SCRIPT), server.url, workflow, chromium, str(out), *extra]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_drop_and_queue(chromium: str, server: Server, root: Path, tmp_path: Path) -> None:
    """Dropped on the canvas it has no missing node, no dialog and no value out of range; queued it shows a video."""
    report = open_workflow(chromium, server, root, tmp_path)
    assert len(report["nodes"]) >= 6
    assert (report["missing"], report["wrong"], report["dialogs"], report["errors"]) == ([], [], [], [])
    assert report["end"]["name"] == "execution_success", report["end"]
    assert report["previews"] > 10
    seconds = 61 / (4 * TINY.fps)
    assert any(video["width"] == 64 and abs(video["seconds"] - seconds) < 0.3 for video in report["videos"])


def test_cancel_from_the_page(chromium: str, server: Server, root: Path, tmp_path: Path) -> None:
    """Cancel while keyframes form ends the run as interrupted."""
    report = open_workflow(chromium, server, root, tmp_path, "cancel")
    assert report["end"]["name"] == "execution_interrupted", report["end"]
    assert report["errors"] == []
