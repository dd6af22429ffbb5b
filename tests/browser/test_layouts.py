"""Every shipped workflow in both renderers of the frontend, before and after a run: whole, apart, in view and legible.

`make layouts` places the nodes anew before that, by tests/helpers/lay_out.py.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.host_server import Server
from tests.helpers.lay_out import WINDOW, Size, lay_out

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SCRIPT = Path(__file__).with_name("layouts.mjs")
WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
FILES = sorted(WORKFLOWS.glob("*.json"))
RENDERERS = ("canvas", "vue")
WHEN = ("opened", "done")
FLAWS = ("missing", "deprecated", "dialogs", "red", "wrong", "open")
SMALLEST_SCALE = 8 / 14  # of the canvas, which leaves out letters of less than 8 pixels; they have 14
LEAST_CONTRAST, SMALLEST_LETTERS = 4.5, 10 * SMALLEST_SCALE  # WCAG's AA; pixels, of 10 that notes have on the canvas
LOW = 10  # pixels: lower than any node, which then takes what it needs
TEXT_HEIGHT = 160  # of a node with a text to type, which could be lower than is good to type in
TYPED = ("CLIPTextEncode", "FusionFrames_EncodeText", "FusionFrames_SchedulePrompts")

KEYFRAME_NODES = {"FusionFrames_SampleKeyframes", "FusionFrames_ImageToVideo"}

Report = dict[str, Any]


def visit(chromium: str, server: Server, out: Path, renderer: str, files: list[Path]) -> Report:
    """Run layouts.mjs; pictures are left in `out`."""
    command = ["node", str(SCRIPT), server.url, chromium, str(out), renderer, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def placed(chromium: str, official_server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    """With FUSIONFRAMES_LAYOUTS every workflow is laid out anew, by what its nodes take when they are given nothing."""
    if not os.environ.get("FUSIONFRAMES_LAYOUTS"):
        return
    folder = tmp_path_factory.mktemp("low")
    workflows = {file.stem: json.loads(file.read_text("utf-8")) for file in FILES}
    for name, workflow in workflows.items():
        low = [{**node, "size": [node["size"][0], LOW]} for node in workflow["nodes"]]
        (folder / f"{name}.json").write_text(json.dumps({**workflow, "nodes": low}))
    low_files = [folder / file.name for file in FILES]
    reports = [visit(chromium, official_server, folder, renderer, low_files)["workflows"] for renderer in RENDERERS]
    for file in FILES:
        sizes = largest([report[file.stem][when]["boxes"] for report in reports for when in WHEN])
        file.write_text(json.dumps(lay_out(workflows[file.stem], sizes), indent=2, ensure_ascii=False) + "\n", "utf-8")


def largest(measured: list[list[dict[str, Any]]]) -> dict[int, Size]:
    """The size that a node has at the most, in whole tens; its width is that of the file."""
    found: dict[int, Size] = {}
    for box in itertools.chain(*measured):
        width, height = box["size"]
        height = max(height, TEXT_HEIGHT if box["type"] in TYPED else 0)
        found[box["id"]] = (round(width), max(found.get(box["id"], (0, 0))[1], -(-height // 10) * 10))
    return found


@pytest.fixture(scope="module", params=RENDERERS)
def report(
    request: pytest.FixtureRequest,
    chromium: str,
    official_server: Server,
    placed: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Report:
    """What a renderer made of all of them; FUSIONFRAMES_SCREENS keeps the pictures in a folder."""
    out = Path(os.environ.get("FUSIONFRAMES_SCREENS") or tmp_path_factory.mktemp("screens"))
    return visit(chromium, official_server, out, request.param, FILES)


def overlaps(boxes: list[dict[str, Any]]) -> list[str]:
    """Pairs of nodes that cover each other by more than a pixel."""
    return [f"{a['type']} and {b['type']}" for a, b in itertools.combinations(boxes, 2) if meet(a, b)]


def meet(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two boxes cover each other."""
    across = min(a["x"] + a["width"], b["x"] + b["width"]) - max(a["x"], b["x"])
    down = min(a["y"] + a["height"], b["y"] + b["height"]) - max(a["y"], b["y"])
    return min(across, down) > 1


def outside(boxes: list[dict[str, Any]], free: dict[str, float]) -> list[str]:
    """Nodes that are not wholly in view."""
    return [
        box["type"]
        for box in boxes
        if box["x"] < free["left"] - 1
        or box["y"] < free["top"] - 1
        or box["x"] + box["width"] > free["right"] + 1
        or box["y"] + box["height"] > free["bottom"] + 1
    ]


def test_all_of_them_open_and_run(report: Report) -> None:
    """Nodes, links, values, no dialog, no red node, a clean console, and a run that ends well."""
    assert report["errors"] == []
    assert sorted(report["workflows"]) == [file.stem for file in FILES]
    for file in FILES:
        stored, found = json.loads(file.read_text("utf-8")), report["workflows"][file.stem]
        assert {flaw: found[flaw] for flaw in FLAWS if found[flaw]} == {}, file.stem
        assert sorted(found["nodes"]) == sorted(node["type"] for node in stored["nodes"])
        assert found["links"] == len(stored["links"])
        assert found["end"]["name"] == "execution_success", f"{file.stem}: {found['end']}"


@pytest.mark.parametrize("when", WHEN)
def test_nothing_overlaps_or_is_out_of_view(report: Report, when: str) -> None:
    """In a window of 1600×1000, also when previews and videos have made nodes grow."""
    assert WINDOW == (1600, 1000)
    wrong = {}
    for name, found in report["workflows"].items():
        boxes, free = found[when]["boxes"], found[when]["free"]
        wrong[name] = {"overlap": overlaps(boxes), "out of view": outside(boxes, free)}
        assert found[when]["scale"] >= SMALLEST_SCALE, name
    assert {name: flaws for name, flaws in wrong.items() if any(flaws.values())} == {}


def test_notes_are_legible(report: Report) -> None:
    """Nothing of a note is cut off, its letters are not tiny, and every word stands out from its ground."""
    for name, found in report["workflows"].items():
        assert found["notes"], name
        for note in found["notes"]:
            assert note["hidden"] <= 1, f"{name}: {note}"
            assert note["letters"] >= SMALLEST_LETTERS, f"{name}: {note}"
            assert note["contrast"] >= LEAST_CONTRAST, f"{name}: {note}"


def test_keyframes_play_in_the_size_of_the_video(report: Report) -> None:
    """When they are done; the stock preview, whose caption is the size of a sheet of frames, is not there."""
    for name, found in report["workflows"].items():
        shown = {preview["type"]: preview for preview in found["previews"]}
        assert not any(preview["stock"] for preview in shown.values()), name
        for node in set(found["nodes"]) & KEYFRAME_NODES:
            assert (shown[node]["width"], shown[node]["height"]) == (64, 64), name
            assert shown[node]["caption"].startswith("64×64 pixels, "), name


def test_groups_hold_their_nodes() -> None:
    """Each node but a note lies within one group, with its title, and groups lie apart."""
    for file in FILES:
        stored = json.loads(file.read_text("utf-8"))
        frames = [
            dict(zip(("x", "y", "width", "height"), group["bounding"], strict=True)) for group in stored["groups"]
        ]
        assert not any(meet(a, b) for a, b in itertools.combinations(frames, 2)), file.stem
        for node in stored["nodes"]:
            x, y = node["pos"][0], node["pos"][1] - 30
            right, bottom = node["pos"][0] + node["size"][0], node["pos"][1] + node["size"][1]
            holding = [
                frame
                for frame in frames
                if frame["x"] <= x
                and frame["y"] <= y
                and right <= frame["x"] + frame["width"]
                and bottom <= frame["y"] + frame["height"]
            ]
            assert len(holding) == (node["type"] != "MarkdownNote"), f"{file.stem}: {node['type']}"
