"""The study's page in a real browser: two videos play, three questions, votes reach the file and the download."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path

import pytest

from tests.helpers.video_clips import moving, write
from training.human_study.page import build
from training.human_study.server import serve
from training.human_study.votes import read_votes, summarise

SCRIPT = Path(__file__).with_name("study.mjs")
pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_votes_reach_the_file(chromium: str, tmp_path: Path) -> None:
    for index, model in enumerate(("ours", "theirs")):
        for number in range(3):
            write(tmp_path / model / f"{number}.mp4", moving(24, (64, 64), 10 * index + number))
    captions = [json.dumps({"video": f"{i}.mp4", "caption": f"a square <b>{i}</b>"}) for i in range(3)]
    (tmp_path / "ours" / "captions.jsonl").write_text("\n".join(captions))
    folders = {name: tmp_path / name for name in ("ours", "theirs")}
    build(folders, None, tmp_path / "page", tmp_path / "key.json")
    with serve(tmp_path / "page", tmp_path / "votes.jsonl", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        command = ["node", str(SCRIPT), url, chromium, str(tmp_path)]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        server.shutdown()
    assert answer.returncode == 0, answer.stderr
    report = json.loads(answer.stdout)
    assert report["problems"] == []
    assert report["done"]
    assert [pair["checked"] for pair in report["pairs"]] == [3, 3, 3]
    assert not any(pair["early"] for pair in report["pairs"]), "no next pair before three answers"
    assert all(pair["playing"] == [True, True] for pair in report["pairs"])
    assert {pair["text"] for pair in report["pairs"]} == {f"a square <b>{i}</b>" for i in range(3)}
    served, downloaded = (read_votes([tmp_path / name]) for name in ("votes.jsonl", "download.jsonl"))
    assert sorted(map(str, served)) == sorted(map(str, downloaded))
    found = summarise(served, tmp_path / "key.json")
    assert found["votes"] == 9
    assert all(row["same"] == 1 and sum(row["wins"].values()) == 2 for row in found["questions"].values())
