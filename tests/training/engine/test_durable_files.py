"""Files that survive a power cut, also on systems where a folder cannot be opened."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from training.engine.durable_files import append_line, commit_folder, sync, write_json


@pytest.fixture
def windows_folders(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """`os.open` refuses folders, as on Windows; which ones were tried."""
    real, tried = os.open, []

    def refuse_folders(path: Path, *arguments: int, **options: int) -> int:
        if Path(path).is_dir():
            tried.append(Path(path))
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse_folders)
    return tried


def test_folders_that_cannot_be_opened_are_written_all_the_same(tmp_path: Path, windows_folders: list[Path]) -> None:
    partial = tmp_path / "checkpoint.partial"
    partial.mkdir()
    (partial / "x").write_text("content")
    commit_folder(partial, tmp_path / "checkpoint")
    assert (tmp_path / "checkpoint" / "x").read_text() == "content"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    assert windows_folders == [tmp_path / "checkpoint.partial", tmp_path]


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: int) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "x").write_text("content")
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError):
        sync(tmp_path / "x")


def test_lines_are_appended_whole(tmp_path: Path) -> None:
    """Also behind one that was cut off, which stays a line of its own."""
    path = tmp_path / "new" / "lines.jsonl"
    for line in ("one", "zwö"):
        append_line(path, line)
    assert path.read_bytes() == "one\nzwö\n".encode()
    path.write_bytes(path.read_bytes() + b"thr")
    append_line(path, "four")
    assert path.read_text("utf-8").splitlines() == ["one", "zwö", "thr", "four"]


def test_numbers_that_json_has_not_become_null(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"psnr": float("inf"), "all": [1.5, float("nan")], "of": {"x": -float("inf")}})
    content = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert content == {"psnr": None, "all": [1.5, None], "of": {"x": None}}
