"""Preparing videos: what is kept, what is skipped and why, resuming, and reading the result."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from fusionframes_core.media.frames import to_pixels
from fusionframes_core.pipeline import FusionFramesPipeline
from tests.helpers.video_clips import RECIPE, moving, write
from training.data.items import DataError, Rate, VideoError
from training.data.layouts import Folder
from training.data.prepared_clips import PreparedClips
from training.data.preparing import prepare
from training.data.shots import cut
from training.data.streams import MovingShapes
from training.data.video_frames import decode
from training.engine.prefetch import Prefetcher
from training.prepare import main


def test_what_cannot_be_used_is_listed_with_its_reason_and_skipped(prepared: Path) -> None:
    report = json.loads((prepared / "report.json").read_text())
    assert (report["videos"], report["clips"], report["frames"]) == (3, 3, 72)
    reasons = {entry["video"]: entry["why"] for entry in report["skipped"]}
    assert set(reasons) == {
        *("broken.mp4", "torn.mp4", "short.mp4", "captionless.mp4"),
        *("silent.mp4", "changing.ts"),
    }
    assert reasons["captionless.mp4"] == "no caption"
    assert reasons["short.mp4"] == "too short: its longest shot has 5 frames of 9"
    assert reasons["broken.mp4"].startswith("broken: ")
    assert reasons["torn.mp4"].startswith("broken: ")
    assert reasons["silent.mp4"] in ("no frames", "no video stream")
    assert reasons["changing.ts"].startswith("changes size at frame ")
    assert sorted(path.name for path in prepared.iterdir() if path.name.startswith(".")) == []


def test_latents_and_texts_are_the_encoders_own(prepared: Path, videos: Path) -> None:
    clips = PreparedClips([prepared])
    batch = clips.keyframes(np.random.default_rng(0), 4, num_frames=9, step=2)
    pipeline = FusionFramesPipeline.from_pretrained("tiny")
    for latents, caption in zip(batch.frames, batch.captions, strict=True):
        number = caption.split()[-1]
        footage = decode(videos / f"good{number}.mp4", (16, 16), None)
        assert footage.fps == 24
        wanted = pipeline.encode(to_pixels(np.stack(list(footage.pictures)))[None])[0]
        errors = [(wanted[:, i : i + 17 : 2] - latents).abs().max().item() for i in range(8)]
        assert min(errors) < 2e-3, "float16 of nine frames, two apart, from some start"
    text = pipeline.encode_text(batch.captions)
    assert torch.equal(batch.text.mask.sum(dim=1), text.mask.sum(dim=1)), "as many tokens, without the padding"
    wanted = text.context[text.mask]
    torch.testing.assert_close(batch.text.context[batch.text.mask], wanted, atol=2e-3, rtol=2e-3)


def write_titled(path: Path, title: str) -> Path:
    """An AVI file of twelve frames with a title."""
    import av

    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as container:
        container.metadata["title"] = title
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 40, "yuv420p"
        for picture in moving(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_one_video_whose_title_is_no_utf8_does_not_end_the_work(tmp_path: Path) -> None:
    path = write_titled(tmp_path / "videos" / "a.avi", "Caf@")
    path.write_bytes(path.read_bytes().replace(b"Caf@", b"Caf\xe9"))
    path.with_suffix(".txt").write_text("a square")
    report = prepare(Folder(path.parent), tmp_path / "out", replace(RECIPE, keep=("pixels",)))
    assert (report["clips"], report["frames"], report["skipped"]) == (1, 12, [])


@pytest.mark.parametrize("place", ["av.open", "fit"])
def test_whatever_a_file_raises_is_a_reason_to_skip_it(
    place: str, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("this format is not supported\nand more")

    monkeypatch.setattr(f"training.data.video_frames.{place}", fail)
    with pytest.raises(VideoError, match=r"^broken: this format is not supported and more$"):
        list(decode(videos / "good0.mp4", (16, 16), None).pictures)


def test_pixels_are_the_videos_own(prepared: Path, videos: Path) -> None:
    batch = PreparedClips([prepared]).sequences(np.random.default_rng(1), 2)
    assert batch.frames.shape == (2, 3, 8, 16, 16)
    footage = decode(videos / f"good{batch.captions[0].split()[-1]}.mp4", (16, 16), None)
    whole = to_pixels(np.stack(list(footage.pictures)))
    assert any(torch.equal(whole[:, i : i + 8], batch.frames[0]) for i in range(17))


def test_windows_keep_their_distance_and_draws_depend_on_the_generator_alone(prepared: Path) -> None:
    clips = PreparedClips([prepared])
    batch = clips.windows(np.random.default_rng(3), 16, num_frames=9)
    assert batch.frames.shape == (16, 4, 9, 2, 2)
    assert set(batch.skip_frames.tolist()) <= {1, 2}, "24 frames hold nine at most two apart"
    again = clips.windows(np.random.default_rng(3), 16, num_frames=9)
    assert torch.equal(batch.frames, again.frames)
    assert batch.captions == again.captions
    other = clips.windows(np.random.default_rng(4), 16, num_frames=9)
    assert not torch.equal(batch.frames, other.frames)


def test_threads_draw_the_same_batches(prepared: Path) -> None:
    """Three threads that read the same mapped files ahead of time, and none."""
    clips = PreparedClips([prepared])

    def draw(step: int) -> torch.Tensor:
        return clips.windows(np.random.default_rng((7, step)), 2, num_frames=5).frames

    ahead = Prefetcher(draw, threads=3)
    found = [ahead.take(step, range(step + 1, min(step + 4, 40))) for step in range(40)]
    ahead.close()
    assert all(torch.equal(batch, draw(step)) for step, batch in enumerate(found))


def test_a_stopped_run_goes_on_and_its_result_is_that_of_an_unbroken_one(
    prepared: Path, videos: Path, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, keep=("latents", "pixels"))
    prepare(Folder(videos), tmp_path, recipe, chunk=2)
    kept = tmp_path / "chunk_00000.safetensors"
    before = kept.stat().st_mtime_ns
    (tmp_path / "chunk_00001.safetensors").unlink()
    (tmp_path / "report.json").unlink()
    (tmp_path / ".chunk_00001.half.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match="no finished data set"):
        PreparedClips([tmp_path])
    prepare(Folder(videos), tmp_path, recipe, chunk=2)
    assert kept.stat().st_mtime_ns == before, "a finished chunk is not made again"
    names = sorted(path.name for path in prepared.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for path in sorted(prepared.glob("*.safetensors")):
        made, wanted = (load_file(folder / path.name) for folder in (tmp_path, prepared))
        assert made.keys() == wanted.keys()
        assert all(torch.equal(made[key], wanted[key]) for key in wanted), path.name
    for name in ("report.json", "settings.json"):
        assert (tmp_path / name).read_bytes() == (prepared / name).read_bytes(), name


@pytest.mark.slow
def test_processes_make_the_same_files(prepared: Path, videos: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, keep=("latents", "pixels"))
    prepare(Folder(videos), tmp_path, recipe, chunk=2, workers=2)
    mine, other = (PreparedClips([folder]) for folder in (tmp_path, prepared))
    assert [clip for *_, clip in mine.clips] == [clip for *_, clip in other.clips]
    rngs = np.random.default_rng(0), np.random.default_rng(0)
    a, b = mine.keyframes(rngs[0], 8, 9, 2), other.keyframes(rngs[1], 8, 9, 2)
    torch.testing.assert_close(a.frames, b.frames, atol=2e-3, rtol=0)
    assert torch.equal(mine.sequences(rngs[0], 2).frames, other.sequences(rngs[1], 2).frames)


def test_another_data_set_or_recipe_does_not_mix_with_what_is_there(prepared: Path, videos: Path) -> None:
    with pytest.raises(ValueError, match=r"was prepared with keep \['latents', 'pixels'\], not \['latents'\]"):
        prepare(Folder(videos), prepared, RECIPE, chunk=2)
    with pytest.raises(ValueError, match="was prepared with data"):
        prepare(MovingShapes(3), prepared, RECIPE, chunk=2)


def test_a_cut_splits_and_a_long_shot_is_cut() -> None:
    scenes = [np.full((20, 24, 24, 3), level, np.uint8) for level in (20, 220, 90)]
    shots = list(cut(np.concatenate(scenes), longest=40))
    assert [len(shot) for shot in shots] == [20, 20, 20]
    assert all(np.array_equal(shot, scene) for shot, scene in zip(shots, scenes, strict=True))
    assert [len(shot) for shot in cut(np.concatenate(scenes), longest=40, threshold=0)] == [40, 20]
    assert [len(shot) for shot in cut(scenes[0], longest=8)] == [8, 8, 4]
    assert list(cut([], longest=8)) == []


def test_a_lower_rate_leaves_frames_out_evenly(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", moving(24), fps=24)
    whole, half = (decode(path, (32, 40), rate) for rate in (None, 12))
    assert (whole.fps, half.fps, half.own) == (24, 12, Rate(24))
    assert np.array_equal(np.stack(list(half.pictures)), np.stack(list(whole.pictures))[1::2])
    with pytest.raises(VideoError, match="too slow: its own rate is 24 FPS of 60"):
        replace(RECIPE, fps=60).check_rate(half.own)


def test_commands(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["folder", str(videos), "--out", str(out), "--size", "16", "16", "--min-frames", "9"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "3 clips, 72 frames, from 3 videos" in printed
    assert "6 videos skipped" in printed
    assert "report.json" in printed
    assert main(["speed", str(out), "--seconds", "0.1", "--kind", "windows"]) == 2
    assert capsys.readouterr().err == "error: clips must have at least 33 frames; the longest has 24\n"
    assert main(["shapes", "--count", "1", "--out", str(tmp_path / "shapes"), "--size", "16", "16"]) == 0
    capsys.readouterr()
    assert main(["speed", str(tmp_path / "shapes"), "--seconds", "0.1", "--batch", "2"]) == 0
    assert "clips/s a core" in capsys.readouterr().out


def test_a_data_set_of_nothing_usable_is_an_error(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report says why of every video; the exit status tells a script that there is nothing to train on."""
    out = tmp_path / "out"
    assert main(["folder", str(videos), "--out", str(out), "--size", "16", "16", "--min-frames", "700"]) == 2
    written = capsys.readouterr()
    assert written.err.endswith(f"error: {out} has no clip to train on: every video was skipped\n")
    assert "0 clips, 0 frames" in written.out
    assert json.loads((out / "report.json").read_text())["skipped"]


def test_a_damaged_null_embedding_is_made_anew(videos: Path, prepared: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(prepared, tmp_path / "copy"))
    whole = (copy / "null.safetensors").read_bytes()
    for damaged in (b"", whole[:-3], save({"other": torch.zeros(1)})):
        (copy / "null.safetensors").write_bytes(damaged)
        with pytest.raises(DataError, match=r"null\.safetensors is missing or not whole: prepare it again"):
            PreparedClips([copy])
        prepare(Folder(videos), copy, replace(RECIPE, keep=("latents", "pixels")), chunk=2)
        assert (copy / "null.safetensors").read_bytes() == whole
