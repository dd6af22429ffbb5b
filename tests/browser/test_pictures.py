"""A picture of every node as the frontend draws it. `make pictures` keeps them, in web/docs, for the help pages."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import cv2
import pytest

from tests.helpers.host_server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SCRIPT = Path(__file__).with_name("pictures.mjs")
MOST_BYTES = 25_000


def test_every_node_has_its_picture(chromium: str, server: Server, tmp_path: Path) -> None:
    """Each is a small JPEG that shows something; kept, it is named in the node's help page, under the title."""
    kept = os.environ.get("FUSIONFRAMES_PICTURES")
    folder = Path(kept) if kept else tmp_path
    command = ["node", str(SCRIPT), server.url, chromium, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    nodes = [name for name in server.get("/object_info") if name.startswith("FusionFrames_")]
    assert sorted(report["nodes"]) == sorted(nodes)
    assert report["errors"] == []
    for name in nodes:
        picture = folder / f"{name}.jpg"
        assert picture.stat().st_size < MOST_BYTES
        assert cv2.imread(str(picture)).std() > 10
        if kept:
            mention(picture)


def mention(picture: Path) -> None:
    """Put a picture under the title of its help page, unless it is there."""
    page = picture.with_suffix(".md")
    title, rest = page.read_text().split("\n", 1)
    link = f"![{title.removeprefix('# ')}]({picture.name})"
    if link not in rest:
        page.write_text(f"{title}\n\n{link}\n{rest}")
