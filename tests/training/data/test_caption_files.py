"""Captions in CSV, JSONL and text files: what is unmistakable is read, the rest is refused by file and line."""

from __future__ import annotations

import codecs
import json
import unicodedata
from pathlib import Path

import pytest

from training.data.caption_files import caption_rows, read_captions
from training.data.caption_match import match_captions
from training.data.items import DataError
from training.data.layouts import Folder
from training.data.text_files import NotUTF8, decode_text
from training.engine.command_line import BadInput
from training.evaluation.video_folders import prompts_of
from training.moving_shapes.prompts_file import read_lines, read_prompts

TEXT = "a rotë circle"
ENCODED = {
    "utf-8": TEXT.encode("utf-8"),
    "utf-8 with a mark": codecs.BOM_UTF8 + TEXT.encode("utf-8"),
    "utf-16 little": codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
    "utf-16 big": codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
}
REFUSED = {
    "latin-1": TEXT.encode("latin-1"),
    "utf-16 without a mark": "a circle".encode("utf-16-le"),
    "utf-32": codecs.BOM_UTF32_LE + TEXT.encode("utf-32-le"),
    "half a utf-16 character": codecs.BOM_UTF16_LE + b"a\0b",
}


def table(folder: Path, content: str, name: str = "a.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(content.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("content", "captions"),
    [
        ("video,caption\na.mp4,a circle, moving left\n", "a circle, moving left"),
        ("video,caption\na.mp4,a circle,moving,,left\n", "a circle,moving,,left"),
        ('video,caption\n"a.mp4",a circle, moving left\n', "a circle, moving left"),
        ("caption,video\na circle, moving left,a.mp4\n", "a circle, moving left"),
        ("video,caption,\na.mp4,a circle,,,\n", "a circle"),
        ("video;caption\na.mp4;a circle, moving left\n", "a circle, moving left"),
        ("video\tcaption\na.mp4\ta circle; or, a ball\n", "a circle; or, a ball"),
        ('video, caption\na.mp4, "a circle, moving"\n', "a circle, moving"),
        ("\n Video , CAPTION \r\n\r\na.mp4 , a circle \r\n", "a circle"),
        ("File Name,Text\ra.mp4,a circle\r", "a circle"),
        ('video,caption\na.mp4,a 5" circle\n', 'a 5" circle'),
        ('video,caption\na.mp4,"a ""round"" circle"\n', 'a "round" circle'),
        ('video,caption\na.mp4,"two lines,\nof one"\n', "two lines,\nof one"),
        ("id,video,caption\n3,a.mp4,a circle\n", "a circle"),
        ("video,path,caption,text\na.mp4,a.mp4 ,,a circle\n", "a circle"),
    ],
)
def test_a_table_is_read_as_it_is_meant(content: str, captions: str, tmp_path: Path) -> None:
    assert read_captions(table(tmp_path, content)) == {"a.mp4": [captions]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('video,caption\na.mp4,"a red circle\nb.mp4,"a star"\n', "line 2: .*a quote that opens must close"),
        ('video,caption\nz.mp4,x\na.mp4,"a red circle\nb.mp4,a star\n', "line 3: .*a quote that opens must close"),
        ('video,caption\na.mp4,"a red circle\nb.mp4,"\n', "line 2: a quoted text holds what looks like another row"),
        ('video,caption\na.mp4,a "red", "round" circle\n', "line 2: "),
        ("id,video,caption\n3,a.mp4,a circle, moving left\n", "line 2: 4 fields for the columns id, video, caption"),
        ("video,caption,caption\na.mp4,x,y\n", "line 1: two columns are called 'caption'"),
        ("a.mp4,a circle\nb.mp4,a star\n", "line 2: needs text in the fields 'video' and 'caption'"),
        ("video,words\na.mp4,a circle\n", "line 2: needs text in the fields"),
        ("video,caption\n,a circle\n", "line 2: needs text in the fields"),
        (
            "video,path,caption\na.mp4,b.mp4,x\n",
            "line 2: 'video' is 'a.mp4' and 'path' is 'b.mp4', which mean",
        ),
        ("video,caption,text\na.mp4,x,y\n", "line 2: 'caption' is 'x' and 'text' is 'y', which mean the same field"),
        ("video,caption\n", "it names none"),
        ("", "it names none"),
    ],
)
def test_what_is_ambiguous_is_refused_by_file_and_line(content: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words) as error:
        read_captions(table(tmp_path, content))
    assert "a.csv" in str(error.value)


def test_half_a_character_in_jsonl_is_refused_by_line(tmp_path: Path) -> None:
    path = table(
        tmp_path, '{"video": "a.mp4", "caption": "x"}\n\n{"video": "b.mp4", "caption": "\\ud83d"}\n', "a.jsonl"
    )
    with pytest.raises(DataError, match=r"a.jsonl, line 3: \\ud83d is half of a character"):
        caption_rows(path)


def test_jsonl_of_any_case_with_separators_of_unicode_in_its_text(tmp_path: Path) -> None:
    content = json.dumps({"Video": "a.mp4", " Caption": "one\u2028two"}, ensure_ascii=False)
    assert read_captions(table(tmp_path, content, "A.JSONL")) == {"a.mp4": ["one\u2028two"]}
    with pytest.raises(DataError, match=r"line 2 is no JSON"):
        read_captions(table(tmp_path, content + "\n{'video'\n", "a.jsonl"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"video": "a.mp4", "caption": "x", "caption": "y"}', "line 1 is no JSON: the key 'caption' comes twice"),
        ('{"video": "a.mp4", "caption": "x", "Caption": "y"}', "line 1: 'caption' is 'x' and 'Caption' is 'y'"),
        ('{"video": "a.mp4", "file name": "b.mp4", "text": "y"}', "line 1: 'video' is 'a.mp4' and 'file name' is"),
        ('{"video": "a.mp4", "caption": "x", "prompt": ["y"]}', "line 1: 'caption' is 'x' and 'prompt' is"),
    ],
)
def test_jsonl_that_says_two_things_is_refused(line: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        caption_rows(table(tmp_path, line, "a.jsonl"))


@pytest.mark.parametrize("name", ENCODED)
def test_encodings_that_are_read_everywhere(name: str, tmp_path: Path) -> None:
    content = ENCODED[name]
    assert decode_text(content) == TEXT
    mark = next(
        (mark for mark in (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) if content[:2] == mark[:2]), b""
    )
    encoding = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}.get(mark, "utf-8")

    def write(path: Path, text: str) -> Path:
        path.write_bytes(mark + text.encode(encoding))
        return path

    assert read_captions(write(tmp_path / "a.csv", f"video,caption\r\na.mp4,{TEXT}\r\n")) == {"a.mp4": [TEXT]}
    line = json.dumps({"video": "a.mp4", "caption": TEXT}, ensure_ascii=False)
    assert read_captions(write(tmp_path / "a.JSONL", line)) == {"a.mp4": [TEXT]}
    assert read_lines(write(tmp_path / "p.txt", f"{TEXT}\r\nsecond\r\n")) == [TEXT, "second"]
    assert read_lines(write(tmp_path / "p.JSONL", json.dumps({"prompt": TEXT}))) == [TEXT]
    assert [prompt.prompt for prompt in read_prompts(write(tmp_path / "q.txt", "a red circle\r\n"))] == ["a red circle"]
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "a.mp4").write_bytes(b"")
    write(tmp_path / "v" / "a.TXT", f"{TEXT}\r\n")
    (item,) = Folder(tmp_path / "v").find(4).items
    assert (item.captions, item.problem) == ((TEXT,), "")


@pytest.mark.parametrize("name", REFUSED)
def test_other_encodings_are_a_reason_and_never_replaced(name: str, tmp_path: Path) -> None:
    with pytest.raises(NotUTF8, match=r"^not UTF-8"):
        decode_text(REFUSED[name])
    for path, read, kind in (
        (tmp_path / "a.csv", read_captions, DataError),
        (tmp_path / "p.txt", read_lines, BadInput),
        (tmp_path / "q.jsonl", read_prompts, BadInput),
    ):
        path.write_bytes(REFUSED[name])
        with pytest.raises(kind, match="UTF-8"):
            read(path)
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "a.mp4").write_bytes(b"")
    (tmp_path / "v" / "a.txt").write_bytes(REFUSED[name])
    (item,) = Folder(tmp_path / "v").find(4).items
    assert (item.captions, item.problem) == ((), "caption is not UTF-8")


def test_half_a_character_in_prompts_is_one_sentence(tmp_path: Path) -> None:
    for read in (read_lines, read_prompts):
        with pytest.raises(BadInput, match=r"line 1: \\ud800 is half of a character"):
            read(table(tmp_path, '{"prompt": "a red circle \\ud800"}\n', "p.jsonl"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"prompt": null}', "prompt must be a string; got null"),
        ('{"prompt": 5}', "prompt must be a string; got 5"),
        ('{"prompt": ["x"]}', 'prompt must be a string; got \\["x"\\]'),
        ('{"prompt": "x", "prompt": "y"}', r"not JSON \(the key 'prompt' comes twice"),
        ('{"text": "x"}', "prompt must be a string"),
        ("5", "must be a JSON object with a prompt; got 5"),
        ("x", "not JSON"),
    ],
)
def test_only_text_is_a_prompt(line: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=rf"p\.jsonl, line 2: {words}"):
        read_lines(table(tmp_path, f'{{"prompt": "a"}}\n{line}\n', "p.jsonl"))


KEYS = ("a.mp4", "deep/b.mp4", "deep/Côte.MP4", "twin.avi", "twin.mp4", "clip.v1.webm")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("a.mp4", "a.mp4"),
        ("./a.mp4", "a.mp4"),
        (".\\a.mp4", "a.mp4"),
        ("deep\\b.mp4", "deep/b.mp4"),
        ("deep/../a.mp4", "a.mp4"),
        ("{root}/deep/b.mp4", "deep/b.mp4"),
        ("videos/deep/b.mp4", "deep/b.mp4"),
        ("C:\\data\\deep\\b.mp4", "deep/b.mp4"),
        ("/elsewhere/of/a.mp4", "a.mp4"),
        ("A.MP4", "a.mp4"),
        ("a", "a.mp4"),
        ("deep/b", "deep/b.mp4"),
        ("clip.v1", "clip.v1.webm"),
        (unicodedata.normalize("NFD", "deep/Côte.MP4"), "deep/Côte.MP4"),
        (unicodedata.normalize("NFD", "deep/côte"), "deep/Côte.MP4"),
        ("twin.avi", "twin.avi"),
    ],
)
def test_a_name_is_found_however_it_is_written(name: str, key: str, tmp_path: Path) -> None:
    root = tmp_path / "videos"
    listing = table(tmp_path, json.dumps({"video": name.format(root=root), "caption": "x"}), "a.jsonl")
    matched = match_captions(caption_rows(listing), KEYS, root, listing)
    assert (matched.texts, matched.missing) == ({key: ["x"]}, [])


@pytest.mark.parametrize("name", ["b.mp4", "a.avi", "clip", "other.mp4", "/deep"])
def test_a_name_that_is_only_alike_is_missing(name: str, tmp_path: Path) -> None:
    listing = table(tmp_path, json.dumps({"video": name, "caption": "x"}), "a.jsonl")
    assert match_captions(caption_rows(listing), KEYS, tmp_path, listing).missing == [name]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a.mp4", "twin"], "line 2: 'twin' can mean twin.avi or twin.mp4"),
        (["/one/a.mp4", "/other/a.mp4"], "lines 1, 2: /one/a, /other/a would all be a.mp4"),
        (["a.mp4", "A.mp4"], "lines 1, 2: A, a would all be a.mp4"),
    ],
)
def test_a_name_that_can_mean_two_videos_is_refused(names: list[str], words: str, tmp_path: Path) -> None:
    lines = [json.dumps({"video": name, "caption": "x"}) for name in names]
    listing = table(tmp_path, "\n".join(lines), "a.jsonl")
    with pytest.raises(DataError, match=words):
        match_captions(caption_rows(listing), KEYS, tmp_path, listing)


def test_several_captions_of_one_video_are_told(tmp_path: Path) -> None:
    listing = table(tmp_path, "video,caption\na.mp4,one\n./a.mp4,two\ntwin.avi,three\n")
    matched = match_captions(caption_rows(listing), KEYS, tmp_path, listing)
    assert matched.texts["a.mp4"] == ["one", "two"]
    assert matched.notes == ["a.csv has several captions for a video: a.mp4 (lines 2, 3)"]


def test_evaluation_finds_prompts_by_the_same_names(tmp_path: Path) -> None:
    for name in ("00.mp4", "01.MP4", "._00.mp4"):
        (tmp_path / name).write_bytes(b"")
    listing = table(tmp_path, "\ufeffVideo;Prompt\n./00.mp4;one\n01;two, three\n", encoding="utf-16-le")
    assert [(path.name, text) for path, text in prompts_of(tmp_path, listing)] == [
        ("00.mp4", "one"),
        ("01.MP4", "two, three"),
    ]
