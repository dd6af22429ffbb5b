"""Data sets in their published layouts."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusionframes_core.media.write_video import write_video
from tests.helpers.video_clips import moving, write, write_avi
from training.data.items import DataError, DataSet, Item, VideoError
from training.data.layouts import MSRVTT, UCF101, Folder, Vimeo90k, class_in_words
from training.data.streams import MovingShapes, WebDataset

SIZE = (16, 20)


def items_of(data: DataSet) -> list[Item]:
    return [item for chunk in data.find(2).chunks for item in data.items(chunk)]


def frames_of(data: DataSet, item: Item) -> np.ndarray:
    return np.stack(list(data.footage(item, SIZE, None).pictures))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("folder")
    for index in range(3):
        write(root / "deep" / f"{index}.mp4", moving(10, seed=index))
    return root


def write_csv(path: Path, rows: list[tuple[str, str]]) -> Path:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("video", "caption"), *rows])
    return path


def test_captions_from_csv_jsonl_and_sidecars(folder: Path, tmp_path: Path) -> None:
    rows = [("deep/0.mp4", 'one, "quoted"'), ("deep/2.mp4", "two"), ("deep/2.mp4", "two again"), ("deep/1.mp4", " ")]
    table = write_csv(tmp_path / "a.csv", rows)
    lines = tmp_path / "a.jsonl"
    lines.write_text("\n".join(json.dumps({"path": video, "text": text}) for video, text in rows) + "\n\n")
    for captions in (table, lines):
        texts = {item.key: item.captions for item in items_of(Folder(folder, captions))}
        assert texts == {
            "deep/0.mp4": ('one, "quoted"',),
            "deep/1.mp4": (),
            "deep/2.mp4": ("two", "two again"),
        }
    (folder / "deep" / "1.txt").write_text("  beside it \n")
    assert [item.captions for item in items_of(Folder(folder))] == [(), ("beside it",), ()]
    (folder / "deep" / "1.txt").unlink()


def test_missing_videos_are_named_in_one_sentence_or_skipped(folder: Path, tmp_path: Path) -> None:
    missing = [(f"gone{index}.mp4", "text") for index in range(7)]
    captions = write_csv(tmp_path / "a.csv", [("deep/0.mp4", "text"), *missing])
    with pytest.raises(DataError) as error:
        Folder(folder, captions).find(2)
    names = ", ".join(f"gone{index}.mp4" for index in range(5))
    assert str(error.value) == f"{captions} names 7 videos that are not in {folder}: {names}, ..."
    found = Folder(folder, captions, skip_missing=True).find(2)
    assert [name for name, why in found.skipped if why == "the file is missing"] == [name for name, _ in missing]
    assert ("deep/1.mp4", "not in a.csv") in found.skipped
    assert len(found.chunks) == 1


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "film,words\na.mp4,text\n", "line 2: needs text in the fields 'video' and 'caption'"),
        ("a.jsonl", '{"video": "a.mp4", "caption": 3}\n', "line 1: needs text"),
        ("a.jsonl", '{"video": \n', "must be a readable .jsonl file"),
        ("a.jsonl", "[1, 2]\n", "line 1: needs text"),
        ("a.txt", "a.mp4 text", "captions must be a .csv or a .jsonl file"),
    ],
)
def test_a_bad_caption_file_is_one_sentence(folder: Path, tmp_path: Path, name: str, content: str, words: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=words):
        Folder(folder, tmp_path / name).find(2)


def test_ucf101(tmp_path: Path) -> None:
    names = ["ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi", "YoYo/v_YoYo_g08_c02.avi"]
    for name in names:
        write_avi(tmp_path / "UCF-101" / name, moving(10))
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "trainlist01.txt").write_text(f"{names[0]} 1\r\n")
    (lists / "testlist01.txt").write_text(f"{names[1]}\r\n")
    (train,), (test,) = (items_of(UCF101(tmp_path, split)) for split in ("train", "test"))
    assert train.captions == ("apply eye makeup",)
    assert test.key == names[1]
    assert class_in_words("YoYo") == "yo yo"
    assert len(items_of(UCF101(tmp_path, "all"))) == 2
    assert frames_of(UCF101(tmp_path), train).shape == (10, *SIZE, 3)
    (lists / "testlist01.txt").write_text(f"{names[1]}\nYoYo/gone.avi\n")
    with pytest.raises(DataError, match=r"names a video that is not in .*UCF-101: YoYo/gone.avi"):
        UCF101(tmp_path, "test").find(2)


def test_msrvtt(tmp_path: Path) -> None:
    for index, folder in enumerate(("TrainValVideo", "TrainValVideo", "TestVideo")):
        write(tmp_path / folder / f"video{index}.mp4", moving(10))
    videos = [{"video_id": f"video{i}", "split": split} for i, split in enumerate(("train", "validate", "test"))]
    sentences = [{"video_id": f"video{i}", "caption": f"{i}, {j}"} for j in range(2) for i in range(3)]
    annotations = tmp_path / "train_val_videodatainfo.json"
    annotations.write_text(json.dumps({"videos": videos, "sentences": sentences}))
    for index, split in enumerate(("train", "validate", "test")):
        (item,) = items_of(MSRVTT(tmp_path, annotations, split))
        assert (item.key, item.captions) == (f"video{index}", (f"{index}, 0", f"{index}, 1"))
        assert len(frames_of(MSRVTT(tmp_path, annotations), item)) == 10
    (tmp_path / "frames").mkdir()
    write_video(moving(3), tmp_path / "frames" / "video0", 24)
    (item,) = items_of(MSRVTT(tmp_path, annotations, "train"))
    assert item.source == tmp_path / "TrainValVideo" / "video0.mp4"
    write(tmp_path / "frames" / "video0.mkv", moving(3))
    with pytest.raises(DataError, match="video0 must be one video; there are"):
        MSRVTT(tmp_path, annotations, "all").find(2)
    (tmp_path / "frames" / "video0.mkv").unlink()
    (tmp_path / "TestVideo" / "video2.mp4").unlink()
    with pytest.raises(DataError, match=r"names a video that is not in .*: video2"):
        MSRVTT(tmp_path, annotations, "all").find(2)
    assert MSRVTT(tmp_path, annotations, "all", skip_missing=True).find(2).skipped == [
        ("video2", "the file is missing")
    ]
    annotations.write_text("{}")
    with pytest.raises(DataError, match="must be MSR-VTT's annotation JSON"):
        MSRVTT(tmp_path, annotations).find(2)


def test_vimeo90k(tmp_path: Path) -> None:
    for name in ("00001/0001", "00001/0002"):
        folder = tmp_path / "sequences" / name
        folder.mkdir(parents=True)
        for number, picture in enumerate(moving(7, SIZE), 1):
            cv2.imwrite(str(folder / f"im{number}.png"), picture[..., ::-1])
    (tmp_path / "sep_trainlist.txt").write_text("00001/0001\n")
    (tmp_path / "sep_testlist.txt").write_text("00001/0002\n")
    data = Vimeo90k(tmp_path)
    (item,) = items_of(data)
    assert np.array_equal(frames_of(data, item), moving(7, SIZE)), "PNG is exact, and RGB stays RGB"
    assert [item.key for item in items_of(Vimeo90k(tmp_path, "all"))] == ["00001/0001", "00001/0002"]
    cv2.imwrite(str(tmp_path / "sequences/00001/0001/im3.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(VideoError, match=r"changes size at im3.png"):
        frames_of(data, item)
    (tmp_path / "sequences/00001/0001/im5.png").unlink()
    (tmp_path / "sequences/00001/0001/im3.png").write_bytes(b"no picture")
    with pytest.raises(VideoError, match=r"im3.png is missing or no picture"):
        frames_of(data, item)


def shard(path: Path, samples: list[dict[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for index, sample in enumerate(samples):
            for suffix, content in sample.items():
                entry = tarfile.TarInfo(f"{index:04d}.{suffix}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return path


def test_webdataset(tmp_path: Path) -> None:
    video = write(tmp_path / "a.mp4", moving(10)).read_bytes()
    shard(
        tmp_path / "s-000.tar",
        [{"mp4": video, "txt": b"one"}, {"mp4": video, "json": b'{"caption": " two "}'}, {"txt": b"no video"}],
    )
    shard(tmp_path / "s-001.tar", [{"mp4": video, "json": b"not json"}])
    data = WebDataset(str(tmp_path / "s-{000..001}.tar"))
    chunks = data.find(5).chunks
    assert len(chunks) == 2, "a shard is a chunk"
    items = list(data.items(chunks[0]))
    assert [item.captions for item in items] == [("one",), ("two",), ("no video",)]
    assert frames_of(data, items[0]).shape == (10, *SIZE, 3)
    with pytest.raises(VideoError, match=r"^no video in the sample: it has 0002.txt$"):
        frames_of(data, items[2])
    (last,) = data.items(chunks[1])
    assert last.captions == ()


def test_a_torn_shard_counts_up_to_the_tear(tmp_path: Path) -> None:
    from training.data.preparing import prepare
    from training.data.recipe import Recipe

    video = write(tmp_path / "a.mp4", moving(10)).read_bytes()
    path = shard(tmp_path / "s.tar", [{"mp4": video, "txt": b"one"}, {"mp4": video, "txt": b"two"}])
    path.write_bytes(path.read_bytes()[: 512 * 2 + len(video) + 3000])
    report = prepare(WebDataset(str(path)), tmp_path / "out", Recipe((16, 16), ("pixels",), min_frames=9))
    assert report["clips"] <= 1
    assert any(entry["why"].startswith("broken") for entry in report["skipped"])


def test_moving_shapes_do_not_depend_on_the_chunks() -> None:
    data = MovingShapes(5, seed=3)

    def scenes(chunk: int) -> Iterator[tuple[str, tuple[str, ...]]]:
        return ((item.key, item.captions) for part in data.find(chunk).chunks for item in data.items(part))

    assert list(scenes(2)) == list(scenes(5))
    (item, *_) = items_of(data)
    footage = data.footage(item, (16, 16), None)
    assert (len(list(footage.pictures)), footage.fps) == (181, 24)
    assert len(list(data.footage(item, (16, 16), 2).pictures)) == 16, "two a second are the keyframes"
