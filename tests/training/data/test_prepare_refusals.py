"""What `training.prepare` cannot do is one sentence, and leaves nothing half-done."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from training.prepare import main


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["folder", "nowhere"], "no folder at nowhere"),
        (["folder", "{videos}", "--captions", "none.csv"], "no caption file at none.csv"),
        (["vimeo90k", "{videos}"], "sequences"),
        (["ucf101", "{videos}", "--split", "trian"], "split must be one of train, test, all; got 'trian'"),
        (["webdataset", "nowhere.tar"], "nowhere.tar must be a tar file"),
        (["folder", "{videos}", "--model", "nowhere"], "nowhere"),
        (["folder", "{videos}", "--size", "0", "0"], "size must be height and width in pixels, both multiples of 16"),
        (["folder", "{videos}", "--size", "24", "16"], "both multiples of 16; got 24x16"),
        (["folder", "{videos}", "--size", "20", "16", "--keep", "pixels"], "both multiples of 8; got 20x16"),
        (["folder", "{videos}", "--device", "gpu"], "--device must be one of cpu"),
        (["folder", "{videos}", "--device", "cuda:99"], "got 'cuda:99'"),
        (["folder", "{videos}", "--chunk", "0"], "--chunk must be at least 1; got 0"),
        (["folder", "{videos}", "--min-frames", "99", "--max-frames", "9"], "min_frames must be from 1 to max_frames"),
        (["folder", "{videos}", "--min-frames", "0"], "min_frames must be from 1 to max_frames; got 0 and 720"),
        (["folder", "{videos}", "--fps", "nan"], "fps must be from 0.01 to 1000; got nan"),
        (["folder", "{videos}", "--fps", "inf"], "fps must be from 0.01 to 1000; got inf"),
        (["folder", "{videos}", "--fps", "1e-9"], "fps must be from 0.01 to 1000; got 1e-09"),
        (["folder", "{videos}", "--threshold", "nan"], "threshold must be a finite number of at least 0; got nan"),
        (["folder", "{videos}", "--threshold", "inf"], "threshold must be a finite number of at least 0; got inf"),
        (["folder", "{videos}", "--threshold=-1"], "threshold must be a finite number of at least 0; got -1"),
    ],
)
def test_bad_input_is_one_sentence(
    options: list[str], words: str, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [option.format(videos=videos) for option in options]
    assert main([*filled, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out" / "settings.json").exists(), "nothing is begun"


def test_an_out_that_is_no_folder_is_refused_before_the_work(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file, a folder below a file, and a name that safetensors cannot open."""
    (tmp_path / "file").write_text("mine")
    bytes_name = os.fsdecode(b"caf\xe9")
    for name, words in (
        ("file", "out must name a folder; "),
        ("file/below", "does not take new files"),
        (bytes_name, "out must have a name in UTF-8"),
    ):
        assert main(["folder", str(videos), "--out", str(tmp_path / name), "--size", "16", "16"]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_is_one_sentence(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("fusionframes_core.checkpoints.state_dict.save_file", full)
    out = tmp_path / "out"
    arguments = ["folder", str(videos), "--out", str(out), "--size", "16", "16", "--min-frames", "9"]
    assert main([*arguments, "--keep", "pixels"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: cannot write '{out / 'chunk_00000.safetensors'}': ")
    assert "No space left on device" in error
    assert sorted(path.name for path in out.iterdir()) == ["settings.json"]
