"""The help page of every node, as ComfyUI's real frontend renders it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.helpers.host_server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SCRIPT = Path(__file__).with_name("help.mjs")


def test_every_help_page_is_rendered(chromium: str, server: Server, root: Path, tmp_path: Path) -> None:
    """The Info button of every node shows its own page: title, text that fits, a picture; and a clean console."""
    command = ["node", str(SCRIPT), server.url, chromium, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    # The frontend looks for a page in its language first.
    assert [error for error in report["errors"] if not error.endswith("/en.md")] == []
    assert sorted(report["pages"]) == sorted(file.stem for file in (root / "web" / "docs").glob("*.md"))
    assert {name: page["over"] for name, page in report["pages"].items() if page["over"]} == {}, "wider than the panel"
    for name, page in report["pages"].items():
        assert page["length"] > 200, name
        assert [Path(picture["source"]).name for picture in page["pictures"]] == [f"{name}.jpg"]
        assert all(picture["width"] > 100 for picture in page["pictures"]), name
