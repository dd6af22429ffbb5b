"""A data set that several jobs prepare: every video in one part, all parts one data set."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.video_clips import RECIPE, moving, write
from training.data.data_parts import Part, merge, parse_part, part_folders
from training.data.items import DataError, Found, Item, Unit, chunked
from training.data.layouts import Folder
from training.data.prepared_clips import PreparedClips
from training.data.preparing import prepare
from training.prepare import main

PIXELS = replace(RECIPE, keep=("pixels",))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("parts") / "videos"
    for index in range(6):
        write(root / f"{index}.mp4", moving(12, seed=index)).with_suffix(".txt").write_text(f"a square {index}")
    (root / "broken.mp4").write_bytes(b"no video")
    (root / "broken.txt").write_text("x")
    (root / "other.vob").write_bytes(b"")
    return root


def test_every_item_and_unit_is_in_exactly_one_part_and_stays_there() -> None:
    items = [Item(f"{index:04d}.mp4", None) for index in range(2000)]
    parts = [Part(number, 8) for number in range(1, 9)]
    shares = [{item.key for item in part.share(Found(chunked(items, 16)), 16).items} for part in parts]
    assert sorted(key for share in shares for key in share) == [item.key for item in items]
    assert all(180 < len(share) < 320 for share in shares)
    more = [Item("0000a.mp4", None), *items]
    for part, share in zip(parts, shares, strict=True):
        assert share <= {item.key for item in part.share(Found(chunked(more, 16)), 16).items}
    units = [Unit(str(index), index) for index in range(10)]
    shared = [[unit.name for unit in part.share(Found(list(units)), 16).units] for part in parts]
    assert sorted(name for share in shared for name in share) == sorted(unit.name for unit in units)


@pytest.mark.parametrize(
    ("text", "environment", "part"),
    [
        ("3/16", {"RANK": "7", "WORLD_SIZE": "8"}, "3/16"),
        ("auto", {"RANK": "0", "WORLD_SIZE": "8"}, "1/8"),
        ("auto", {"SLURM_PROCID": "3", "SLURM_NTASKS": "4"}, "4/4"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "16"}, "6/16"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "16", "SLURM_ARRAY_TASK_MIN": "1"}, "5/16"),
        (
            "auto",
            {
                "SLURM_ARRAY_TASK_ID": "7",
                "SLURM_ARRAY_TASK_COUNT": "4",
                "SLURM_ARRAY_TASK_MIN": "1",
                "SLURM_ARRAY_TASK_STEP": "2",
                "RANK": "1",
                "WORLD_SIZE": "2",
            },
            "8/8",
        ),
    ],
)
def test_a_part_is_named_or_the_launchers(text: str, environment: dict[str, str], part: str) -> None:
    assert str(parse_part(text, environment)) == part


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0/4", "part must be K/N with K from 1 to N; got 0/4"),
        ("5/4", "got 5/4"),
        ("3", "--part must be K/N, as 3/16, or auto; got '3'"),
        ("auto", "--part auto needs RANK and WORLD_SIZE, or SLURM_PROCID"),
    ],
)
def test_no_part_is_one_sentence(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_part(text, {})


def test_parts_are_one_data_set(folder: Path, tmp_path: Path) -> None:
    data, out = Folder(folder), tmp_path / "out"
    for number in (3, 1):
        prepare(data, out, PIXELS, 2, part=Part(number, 3))
    with pytest.raises(DataError, match=r"out is not finished: prepare with --part 2/3 too"):
        merge(out)
    with pytest.raises(DataError, match="holds no finished data set"):
        PreparedClips([out])
    prepare(data, out, PIXELS, 2, part=Part(2, 3))
    report, whole = merge(out), prepare(data, tmp_path / "whole", PIXELS, 2)
    for name in ("videos", "clips", "frames", "rates", "stored_rates", "notes", "text"):
        assert report[name] == whole[name], name
    assert {tuple(entry.values()) for entry in report["skipped"]} == {
        tuple(entry.values()) for entry in whole["skipped"]
    }
    assert len(report["skipped"]) == len(whole["skipped"]), "none twice"
    parts, one = PreparedClips([out]), PreparedClips([tmp_path / "whole"])
    assert sorted(clip["video"] for *_, clip in parts.clips) == sorted(clip["video"] for *_, clip in one.clips)
    assert parts.sequences(np.random.default_rng(0), 4).frames.shape == (4, 3, 8, 16, 16)
    assert torch.equal(parts.null.tokens, one.null.tokens)
    for number in (1, 2, 3):
        prepare(data, out, PIXELS, 2, part=Part(number, 3))
        assert not (out / "report.json").exists(), "what was merged is stale"
    assert merge(out) == report


def test_parts_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    data, out = Folder(folder), tmp_path / "out"
    prepare(data, out, PIXELS, part=Part(1, 2))
    with pytest.raises(DataError, match=r"was prepared in 2 parts, not 3 parts: say --part K/2"):
        prepare(data, out, PIXELS, part=Part(1, 3))
    with pytest.raises(DataError, match=r"was prepared in 2 parts, not one"):
        prepare(data, out, PIXELS)
    prepare(data, out, replace(PIXELS, min_frames=8), part=Part(2, 2))
    with pytest.raises(DataError, match=r"has parts of different settings: 1/2 and 2/2"):
        merge(out)
    prepare(data, tmp_path / "whole", PIXELS)
    with pytest.raises(DataError, match=r"was prepared whole, not in parts"):
        prepare(data, tmp_path / "whole", PIXELS, part=Part(1, 2))
    with pytest.raises(DataError, match="holds no parts"):
        merge(tmp_path / "whole")


def test_a_part_without_a_video_is_no_error(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = tmp_path / "one"
    one.mkdir()
    for name in ("0.mp4", "0.txt"):
        shutil.copy(folder / name, one / name)
    arguments = ["folder", str(one), "--out", str(tmp_path / "out"), "--size", "16", "16", "--min-frames", "9"]
    for number in (1, 2):
        assert main([*arguments, "--part", f"{number}/2"]) == 0
    assert sorted(len(list(path.glob("chunk_*"))) for path in part_folders(tmp_path / "out").values()) == [0, 1]
    assert main(["merge", str(tmp_path / "out")]) == 0
    assert "1 clips, 12 frames, from 1 videos" in capsys.readouterr().out.splitlines()[-2]
    assert main(["merge", str(one)]) == 2
    assert capsys.readouterr().err == f"error: {one} holds no parts: prepare them with --part K/N\n"


@pytest.mark.slow
def test_jobs_at_once_do_not_clash(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training.prepare", "folder", str(folder), "--out", str(tmp_path / "out")]
    command += ["--size", "16", "16", "--min-frames", "9", "--keep", "pixels", "--chunk", "1"]
    jobs = [subprocess.Popen([*command, "--part", f"{number}/2"], stderr=subprocess.PIPE) for number in (1, 2)]
    assert [job.communicate() and job.returncode for job in jobs] == [0, 0]
    assert merge(tmp_path / "out")["videos"] == 6
    assert json.loads((tmp_path / "out" / "report.json").read_text())["parts"] == 2


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("report.json", "{", r"part_0002_of_0002/report\.json must be a JSON object: prepare it again"),
        ("report.json", "[]", r"part_0002_of_0002/report\.json must be a JSON object"),
        ("report.json", "{}", r"part_0002_of_0002/report\.json does not say chunks, videos"),
        ("settings.json", "{", r"settings\.json must be a JSON object"),
        ("null.safetensors", "{", r"part_0001_of_0002/null\.safetensors is missing or not whole"),
    ],
)
def test_damaged_parts_are_named(folder: Path, tmp_path: Path, name: str, content: str, words: str) -> None:
    out = tmp_path / "out"
    for number in (1, 2):
        prepare(Folder(folder), out, PIXELS, part=Part(number, 2))
    first, second = part_folders(out).values()
    ((first if name == "null.safetensors" else second) / name).write_text(content)
    with pytest.raises(DataError, match=words.replace("/", re.escape(os.sep))):
        merge(out)
    assert not (out / "report.json").exists()
