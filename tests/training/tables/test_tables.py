"""The paper's tables: runs that are made once, what the page says, and the sweeps' clips."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from training.tables import sweeps
from training.tables.__main__ import TABLES, main
from training.tables.render import ONE_SEED, render, render_table
from training.tables.runs import Budget, Row, RowFigures, Table, make_runs, runs_file, stored_budget, summary
from training.tables.sweeps import GUIDANCE, SKIP, from_keyframes, skip_clips
from training.tables.trained import MASKED, OURS, TIMED, interpolation_verdict, order_verdict

ROOT = Path(__file__).resolve().parents[3]


def counting(calls: list[tuple[str, int]]) -> Table:
    """A table of two rows whose figure is the seed, and a row that cannot be made."""

    def measure(name: str, seed: int) -> RowFigures:
        calls.append((name, seed))
        return {"psnr": 10.0 * (name == "b") + seed}

    def rows(budget: Budget) -> list[Row]:
        made = [Row(name, lambda seed, name=name: measure(name, seed)) for name in ("a", "b")]  # type: ignore[misc]
        return [*made, Row("c", lambda seed: {}, missing="no such thing")]

    columns = {"psnr": "PSNR (dB)"}
    return Table(
        "t", "Title", "About.", columns, ("clips",), rows, lambda found: order_verdict(["a", "b"], found, "psnr")
    )


def drop_run(path: Path, row: str, seed: int) -> None:
    """Take a run's line out of its file."""
    lines = path.read_text("utf-8").splitlines(keepends=True)
    kept = [line for line in lines if (json.loads(line)["row"], json.loads(line)["seed"]) != (row, seed)]
    assert len(kept) == len(lines) - 1
    path.write_text("".join(kept), "utf-8")


def test_runs_are_made_once_each_and_again_for_another_budget(tmp_path: Path) -> None:
    calls: list[tuple[str, int]] = []
    table, budget = counting(calls), Budget(seeds=(0, 1, 5), folder=tmp_path)
    make_runs(table, budget)
    assert calls == [(name, seed) for name in "ab" for seed in (0, 1, 5)]
    drop_run(runs_file(table, tmp_path), "b", 1)
    calls.clear()
    make_runs(table, budget)
    assert calls == [("b", 1)], "only what is missing"
    calls.clear()
    make_runs(table, dataclasses.replace(budget, prompts=7))
    assert calls == [], "prompts do not matter to this table"
    make_runs(table, dataclasses.replace(budget, clips=3))
    assert len(calls) == 6
    calls.clear()
    make_runs(table, budget)
    assert calls == [], "the runs of another budget are still there"


def test_a_line_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    """What a kill left of the last run spoils neither the ones before it nor the one that takes its place."""
    calls: list[tuple[str, int]] = []
    table, budget = counting(calls), Budget(seeds=(0, 1), folder=tmp_path)
    make_runs(table, budget)
    path = runs_file(table, tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    calls.clear()
    make_runs(table, budget)
    assert calls == [("b", 1)]
    assert path.read_bytes().splitlines()[-1] == whole.splitlines()[-1]
    assert summary(table, budget)["b"]["psnr"][0] == 10.5


def test_the_page_shows_mean_and_deviation_and_what_is_missing(tmp_path: Path) -> None:
    table, budget = counting([]), Budget(seeds=(0, 1, 5), folder=tmp_path)
    assert "| a | not run |" in render_table(table, budget)
    make_runs(table, budget)
    page = render_table(table, budget)
    deviation = np.std([0, 1, 5], ddof=1)
    assert f"| a | 2.00 ± {deviation:.2f} |" in page
    assert f"| b | 12.00 ± {deviation:.2f} |" in page
    assert "| c | no such thing |" in page
    assert "Budget: seeds 0, 1, 5; clips 16." in page
    assert "a before b: does not come out (2.00 and 12.00)." in page
    assert summary(table, budget)["a"]["psnr"] == pytest.approx((2, deviation))


def test_the_page_shows_the_runs_that_are_there(tmp_path: Path) -> None:
    """Stored runs bring their own budget and the seeds that all rows have; without runs a page's section stays."""
    table, made = counting([]), Budget(seeds=(0, 2), clips=3, folder=tmp_path)
    asked = Budget(folder=tmp_path)
    before = "# Results\n\n## Other\n\nx\n\n## Title\n\nwhat was measured\n"
    assert stored_budget(table, asked) is None
    assert render([table], asked, before).endswith("## Title\n\nwhat was measured\n")
    make_runs(table, made)
    make_runs(table, dataclasses.replace(made, seeds=(4,)), ["a"])
    found = stored_budget(table, asked)
    assert found is not None
    assert (found.seeds, found.clips) == ((0, 2), 3)
    page = render([table], asked, before)
    assert "Budget: seeds 0, 2; clips 3." in page
    assert "what was measured" not in page
    assert ONE_SEED not in page
    assert ONE_SEED in render_table(table, dataclasses.replace(made, seeds=(2,)))


def test_an_order_is_told_pair_by_pair() -> None:
    found = {name: {"psnr": (value, 1.0)} for name, value in (("a", 5.0), ("b", 4.5), ("c", 9.0))}
    lines = order_verdict(["a", "b", "c"], found, "psnr")
    assert lines[0].startswith("Of the paper's order, 1 of 2 neighbours come out")
    assert "within the deviations" in lines[1]
    assert "does not come out (4.50 and 9.00)" in lines[2]
    assert order_verdict(["a", "x"], found, "psnr") == [], "nothing is said of what was not run"


def test_interpolations_are_compared_by_what_they_gain() -> None:
    """The gain over blending is told, as clips differ more from each other than the two architectures do."""
    costs = {f"{kind} {batch}x{frames}": (1.0, 0.0) for batch, frames in TIMED for kind in ("seconds", "gflops")}
    ours = {"gain": (-1.0, 0.2), **costs}
    masked = {"gain": (-2.5, 0.3), **dict.fromkeys(costs, (4.0, 0.0))}
    lines = interpolation_verdict({OURS: ours, MASKED: masked})
    assert lines[0] == "Ours over masked at equal steps: +1.50 dB."
    assert lines[1].startswith("Neither has reached blended latents yet")
    assert lines[2] == "1 × 16 frames: 4.00 times less processor time, 4.00 times fewer operations."
    lines = interpolation_verdict({OURS: {**ours, "gain": (0.1, 0.2)}, MASKED: {**masked, "gain": (0.2, 0.1)}})
    assert lines[0] == "Ours over masked at equal steps: -0.10 dB (within the deviations)."
    assert "Neither" not in lines[1]
    assert interpolation_verdict({OURS: ours}) == []


def test_every_skip_sees_the_same_scenes_and_its_own_times() -> None:
    one, twelve = (skip_clips(skip, 5, seed=2) for skip in (1, 12))
    assert [scene for scene, _ in one] == [scene for scene, _ in twelve]
    for skip, clips in ((1, one), (12, twelve)):
        assert all(np.allclose(np.diff(times), skip) and len(times) == 33 for _, times in clips)
    assert all(times[0] >= 0 and times[-1] <= 180 for _, times in one)
    assert all(times[0] <= 0 and times[-1] >= 180 for _, times in twelve), "the clip lies inside the window"


def test_the_distance_from_keyframes() -> None:
    """A ramp between keyframes: 1, 2 and 1 quarters from the nearer one."""
    ramp = torch.arange(9.0).reshape(1, 1, 9, 1, 1).expand(1, 3, 9, 2, 2)
    assert from_keyframes(ramp) == pytest.approx((1 + 2 + 1) / 3)
    copies = ramp.clone()
    copies[:, :, 1:4] = copies[:, :, :1]
    copies[:, :, 5:8] = copies[:, :, 8:]
    assert from_keyframes(copies) == 0


def test_verdicts_follow_the_figures() -> None:
    def found(best: float) -> dict[str, dict[str, tuple[float, float]]]:
        return {
            f"w = {w:g}": {"psnr": (30 - abs(w - best), 0.1), "distance": (1 - 0.1 * w, 0.0)} for w in sweeps.WEIGHTS
        }

    agrees = GUIDANCE.verdict(found(0.5))
    assert agrees[0] == "PSNR is best at w = 0.5."
    assert all(" comes out: " in line for line in agrees[1:])
    assert "does not come out: 0.25 gives -0.25 dB" in GUIDANCE.verdict(found(0.0))[1]
    rows = {f"s = {s}": {"psnr": (30.0, 0), "gain": (6.5 - s, 0), "told_3": (30.0 - (s > 3), 0)} for s in range(1, 13)}
    text = " ".join(SKIP.verdict(rows))
    assert "largest at s = 1 (+5.50 dB)" in text
    assert "below 0 at s = 7, s = 8" in text
    assert "a higher PSNR at s = 4, s = 5" in text


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[tuple[str, int]] = []
    monkeypatch.setitem(TABLES, "skip", counting(calls))
    out = tmp_path / "R.md"
    command = ["--only", "skip", "--seeds", "4", "--folder", str(tmp_path / "runs"), "--out", str(out)]
    assert main([*command, "--write"]) == 0
    assert calls == []
    assert main(command) == 0
    assert calls == [("a", 4), ("b", 4)]
    page = out.read_text("utf-8")
    assert "| b | 14.00 |" in page
    assert "Masked Frame Interpolation" in page
    assert page == render(list(TABLES.values()), Budget(seeds=(4,), folder=tmp_path / "runs"))
    assert main([*command, "--clips", "0"]) == 2
    assert capsys.readouterr().err == "error: --clips must be at least 1; got 0\n"


def test_the_committed_runs_are_what_results_md_says() -> None:
    """`results/` is where the whole page comes from, to the last digit."""
    page = (ROOT / "RESULTS.md").read_text("utf-8")
    assert page == render(list(TABLES.values()), Budget(folder=ROOT / "results"))
    assert "not run" not in page.split("## ", 1)[1]


@pytest.mark.slow
def test_sweeps_measure_the_bundled_model(tmp_path: Path) -> None:
    budget = Budget(seeds=(0,), clips=1, folder=tmp_path)
    figures = sweeps.measure_skip(budget, 3, 0)
    assert figures["told_3"] == figures["psnr"], "s = 3 is told 3 anyway"
    assert figures["gain"] == pytest.approx(figures["psnr"] - figures["blend"])
    guided = sweeps.measure_guidance(budget, 0.0, 0)
    assert guided["psnr"] > 25
    assert 0.5 < guided["distance"] < 1.5


@pytest.mark.slow
def test_a_decoder_is_trained_and_measured(tmp_path: Path) -> None:
    """Table 3 with two steps a row: a row that trains, resumed without training again, and the one that does not."""
    options = ["--only", "decoders", "--clips", "1", "--decoder-steps", "2", "--seeds", "0", "--threads", "1"]
    rows = [f"--rows={name}" for name in ("image", "conv1, temporal")]
    out = tmp_path / "R.md"
    assert main([*options, *rows, "--folder", str(tmp_path / "runs"), "--out", str(out)]) == 0
    runs = [json.loads(line) for line in (tmp_path / "runs" / "decoders.jsonl").read_text().splitlines()]
    assert [run["settings"]["decoder_steps"] for run in runs] == [2, 2]
    image, conv1 = (run["figures"] for name in ("image", "conv1, temporal") for run in runs if run["row"] == name)
    assert conv1["parameters"] > image["parameters"]
    assert conv1["psnr"] == pytest.approx(image["psnr"], abs=2), "two steps from the image decoder"
    assert "| conv3, temporal | not run |" in out.read_text("utf-8")
    other = [*options[:5], "3", *options[6:], rows[1], "--folder", str(tmp_path / "runs"), "--out", str(out)]
    assert main(other) == 0
    trainings = {json.loads(path.read_text().splitlines()[-1])["step"] for path in tmp_path.rglob("log.jsonl")}
    assert trainings == {2, 3}, "weights of two steps are no answer to a question about three"
