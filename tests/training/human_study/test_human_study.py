"""The side-by-side study: blind pages, votes, and who won."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.video_clips import moving, write
from training.human_study.__main__ import main
from training.human_study.server import serve
from training.human_study.votes import sign_test, summarise

COUNT = 6


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for index, model in enumerate(("blocks", "layers")):
        for number in range(COUNT):
            write(root / model / f"{number}.mp4", moving(6, seed=10 * index + number))
    lines = [json.dumps({"video": f"{i}.mp4", "caption": f"text </script> {i}"}) for i in range(COUNT)]
    (root / "blocks" / "captions.jsonl").write_text("\n".join(lines))
    return root


@pytest.fixture
def study(folders: Path, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    command = ["build", *(str(folders / name) for name in ("blocks", "layers")), "--seed", "3"]
    assert main([*command, "--page", str(tmp_path / "page"), "--key", str(tmp_path / "key.json")]) == 0
    return tmp_path / "page", json.loads((tmp_path / "key.json").read_text())


@pytest.mark.parametrize(("name", "value"), [("--limit", "0"), ("--limit", "-1"), ("--key", ".")])
def test_bad_options_are_refused_before_a_video_is_copied(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    given = {"--page": str(tmp_path / "page"), "--key": str(tmp_path / "key.json"), name: value}
    command = ["build", *(str(folders / model) for model in ("blocks", "layers"))]
    assert main([*command, *(word for pair in given.items() for word in pair)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {name} must ")
    assert not (tmp_path / "page").exists()


def shown(page: Path) -> dict[str, Any]:
    text = (page / "index.html").read_text("utf-8")
    _, _, rest = text.partition('<script id="data" type="application/json">')
    return json.loads(rest.partition("</script>")[0])


def test_the_page_is_blind_and_the_key_is_right(study: tuple[Path, dict[str, Any]], folders: Path) -> None:
    page, key = study
    everything = (page / "index.html").read_text("utf-8")
    assert "blocks" not in everything
    assert "layers" not in everything
    pairs = shown(page)["pairs"]
    assert len(pairs) == COUNT
    assert len(list((page / "videos").iterdir())) == 2 * COUNT
    for pair, secret in zip(pairs, key["pairs"], strict=True):
        assert {secret["left"], secret["right"]} == {"blocks", "layers"}
        for side in ("left", "right"):
            original = folders / secret[side] / secret["video"]
            assert (page / pair[side]).read_bytes() == original.read_bytes()
        assert pair["text"] == f"text </script> {secret['video'][0]}"
    lefts = [secret["left"] for secret in key["pairs"]]
    assert 0 < lefts.count("blocks") < COUNT, "sides change"
    assert [secret["video"] for secret in key["pairs"]] != sorted(secret["video"] for secret in key["pairs"])


def vote(key: dict[str, Any], pair: int, winner: str, question: str = "quality", voter: str = "a") -> dict[str, Any]:
    entry = next(entry for entry in key["pairs"] if entry["pair"] == pair)
    answer = next((side for side in ("left", "right") if entry[side] == winner), "same")
    return {"study": key["study"], "voter": voter, "pair": pair, "question": question, "answer": answer}


def test_summary_counts_wins_by_model_not_by_side(study: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    page, key = study
    votes = [vote(key, pair, "blocks") for pair in range(5)] + [vote(key, 5, "layers"), vote(key, 0, "same", "text")]
    report = summarise(votes, page.with_name("key.json"))
    quality, text = report["questions"]["quality"], report["questions"]["text"]
    assert (quality["wins"], quality["same"]) == ({"blocks": 5, "layers": 1}, 0)
    assert quality["share"]["blocks"] == pytest.approx(5 / 6)
    assert quality["p"] == pytest.approx(2 * (1 + 6) / 2**6)
    assert (text["same"], text["share"]["blocks"], text["p"]) == (1, None, 1.0)
    low, high = quality["interval"]["blocks"]
    assert low < 5 / 6 < high


def test_a_changed_mind_counts_once(study: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    page, key = study
    votes = tmp_path / "votes.jsonl"
    first, last, other = vote(key, 0, "layers"), vote(key, 0, "blocks"), vote(key, 0, "layers", voter="b")
    votes.write_text("".join(json.dumps(line) + "\n" for line in (first, last, other)))
    out = tmp_path / "summary.json"
    assert main(["summary", str(votes), "--key", str(page.with_name("key.json")), "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    assert report["questions"]["quality"]["wins"] == {"blocks": 1, "layers": 1}
    assert (report["votes"], report["voters"], report["pairs"]) == (2, 2, 1)


def test_the_sign_test_is_exact() -> None:
    assert sign_test(5, 10) == 1
    assert sign_test(0, 10) == pytest.approx(2 / 2**10)
    assert sign_test(10, 10) == sign_test(0, 10)
    assert sign_test(0, 0) == 1


@pytest.fixture
def server(study: tuple[Path, dict[str, Any]]) -> Iterator[tuple[int, Path]]:
    page, _ = study
    votes = page.with_name("votes.jsonl")
    with serve(page, votes, 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1], votes
        server.shutdown()
        thread.join()


def post(port: int, body: str, path: str = "/votes", kind: str = "application/json") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", path, body.encode(), {"Content-Type": kind})
    return connection.getresponse().status


def test_the_server_keeps_votes_and_refuses_the_rest(
    server: tuple[int, Path], study: tuple[Path, dict[str, Any]]
) -> None:
    port, votes = server
    good = vote(study[1], 0, "blocks")
    assert post(port, json.dumps([good, good])) == 204
    assert [json.loads(line) for line in votes.read_text().splitlines()] == [good, good]
    for body in (
        "{}",
        "[3]",
        "no json",
        json.dumps([good, {**good, "answer": "both"}]),
        json.dumps([{**good, "pair": "0"}]),
    ):
        assert post(port, body) == 400, body
    assert post(port, json.dumps([good]), "/elsewhere") == 400
    assert post(port, json.dumps([good]), kind="text/plain") == 415
    assert len(votes.read_text().splitlines()) == 2, "nothing of a bad request is kept"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/../key.json")
    assert connection.getresponse().status == 404, "the key is not served"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["build", "{}/blocks", "{}/layers", "--page", "{}/p", "--key", "{}/p/key.json"], "must lie outside the page"),
        (["build", "{}/blocks", "{}/layers", "--page", "{}/blocks", "--key", "{}/k.json"], "a new or an empty folder"),
        (["build", "{}/layers", "{}/blocks", "--page", "{}/p", "--key", "{}/k.json"], "no caption file"),
        (["build", "{}/blocks", "{}/blocks", "--page", "{}/p", "--key", "{}/k.json"], "two different names"),
        (["summary", "{}/none.jsonl", "--key", "{}/k.json"], "no votes at"),
        (["serve", "{}/blocks", "--votes", "{}/v.jsonl"], "no page in"),
    ],
)
def test_bad_input_is_one_sentence(
    command: list[str], words: str, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([part.format(folders) for part in command]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
