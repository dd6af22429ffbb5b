"""The benchmarks run, notice a wrong result, and print what they measured."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmarks import masked, training_step
from benchmarks.__main__ import main
from benchmarks.cases import CASES
from benchmarks.harness import FEWEST_REPEATS, Case, Sides, compare, operations, peak_growth, table
from benchmarks.official import VARIABLE, official_cases, work_trees
from benchmarks.official_stages import STAGES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_runs_and_its_sides_agree(case: Case) -> None:
    row = compare(replace(case, memory=False), repeats=1, small=True)
    assert row.ours_seconds > 0
    assert row.baseline_seconds > 0
    assert row.speed_ratio == pytest.approx(row.baseline_seconds / row.ours_seconds)


def test_a_wrong_result_is_no_measurement() -> None:
    def build(small: bool) -> Sides:
        return lambda: torch.ones(3), lambda: torch.ones(3) * 1.01

    with pytest.raises(ArithmeticError, match=r"wrong: results differ by 9\.9e-03, more than 1e-03"):
        compare(Case("wrong", "a", "b", build, tolerance=1e-3), repeats=1, small=True)


def test_every_official_stage_is_a_case() -> None:
    found = work_trees()
    if not found:
        pytest.skip(f"{VARIABLE} names no official work tree: nothing of the official code to run beside ours")
    names = {case.name for case in official_cases()}
    assert {f"official {version} {stage}" for stage in STAGES for version in found} <= names


def test_sides_take_turns_until_the_time_is_over() -> None:
    runs: list[str] = []

    def side(name: str) -> Tensor:
        runs.append(name)
        return torch.ones(1)

    def build(small: bool) -> Sides:
        return lambda: side("ours"), lambda: side("theirs")

    compare(Case("turns", "a", "b", build, tolerance=0.0), repeats=50, small=True, seconds=0.0)
    turns = [set(runs[index : index + 2]) for index in range(2, len(runs), 2)]  # the first two are for the results
    assert turns == [{"ours", "theirs"}] * FEWEST_REPEATS
    assert runs[2:4] == runs[4:6][::-1]


def test_peak_memory_counts_what_the_work_allocates() -> None:
    def allocate() -> Tensor:
        return torch.ones(64, 1000, 1000)  # 256 MB

    growth = peak_growth(allocate)
    if growth is None:
        pytest.skip("peak memory is read from /proc, which this system does not have")
    assert growth == pytest.approx(256, rel=0.2)


def test_table_puts_ratios_first() -> None:
    case = next(case for case in CASES if case.name.startswith("temporal attention"))
    lines = table([compare(replace(case, memory=False), repeats=1, small=True)]).splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[1:4]] == ["speed ×", "processor ×", "memory ×"]
    assert case.name in lines[2]


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--small", "--repeats", "1", "--json", "--only", "text attention"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["text attention, 128 tokens, masked"]
    assert main(["--only", "no such case"]) == 2
    assert "names no case" in capsys.readouterr().err
    assert main(["--repeats", "0"]) == 2
    assert "--repeats must be at least 1" in capsys.readouterr().err


def test_masked_interpolation_costs_several_times_as_much() -> None:
    """61 frames instead of 15 groups of the same trunk: four times the operations, whatever the machine."""
    row = masked.compare(batch=1, keyframes=16, repeats=1, size=32)
    assert 3.5 < row["flops_ratio"] < 4.5
    assert row["time_ratio"] > 1


def test_the_steps_that_are_timed_are_whole() -> None:
    """Every side gives a denoising loss of random latents, ours the same one with checkpointing and without."""
    steps = [training_step.build(side, clips=1, frames=4) for side in training_step.SIDES]
    losses = [[step() for _ in range(2)] for step in steps]
    assert losses[1] == pytest.approx(losses[2], rel=1e-5), "checkpointing changes no number"
    assert all(0.5 < loss < 2 for of_side in losses for loss in of_side)


def test_operations_are_those_of_every_product() -> None:
    left, right, sums = torch.empty(2, 3, 5), torch.empty(2, 5, 7), torch.zeros(3, 7)
    assert operations(lambda: torch.bmm(left, right)) == 2 * 2 * 3 * 5 * 7
    assert operations(lambda: sums.addmm_(left[0], right[0])) == 2 * 3 * 5 * 7
    low = [part.to("meta", torch.bfloat16) for part in (left, right)]
    assert operations(lambda: torch.bmm(*low, out_dtype=torch.float32)) == 2 * 2 * 3 * 5 * 7
