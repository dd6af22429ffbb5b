"""The GPU benchmark measures, writes down, goes on and prints; in small, on the CPU."""

from __future__ import annotations

import json
import subprocess
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu, gpu_measurements, gpu_results, training_gpu
from benchmarks.gpu_bench import Bench, Measurement
from benchmarks.gpu_measurements import measurements
from benchmarks.gpu_tables import markdown
from benchmarks.our_stages import OUR_STAGES, SMALL, Place
from benchmarks.training_stages import in_precision

BENCH = Bench(SMALL, Place("cpu", torch.float32), repeats=1)
SETTING = {"card": "CPU", "small": True}


@pytest.mark.slow
@pytest.mark.parametrize("one", measurements(BENCH, compiled=False), ids=lambda one: f"{one.table}, {one.row}")
def test_every_measurement_runs(one: Measurement) -> None:
    with torch.inference_mode():
        numbers = one.run(BENCH)
    rows = {"card": {"matrix product": {"teraflops": 1.0}}}
    rows.setdefault(one.table, {})[one.row] = numbers
    assert all(value is None or value >= 0 for value in numbers.values())
    if one.table != "card":
        assert "| --- |" in markdown(rows)


@pytest.mark.slow
@pytest.mark.parametrize("one", training_gpu.measurements(compiled=False), ids=lambda one: one.row)
def test_every_training_step_runs(one: Measurement) -> None:
    numbers = one.run(Bench(SMALL, Place("cpu", torch.bfloat16), repeats=1))
    assert numbers["ms"] > 0
    assert numbers["parameters"] > 0
    assert "official" in one.row or numbers["mfu"] > 0


def test_cards_train_in_bf16_and_cpus_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where gradients in bf16 may be wrong."""
    bench = Bench(SMALL, Place("cpu", torch.bfloat16), repeats=1)
    found = in_precision(training_gpu.SHIPPED, bench)
    assert found == {"activation_checkpointing": True, "frozen": "same", "mixed_precision": "no"}
    monkeypatch.setattr(Bench, "on_gpu", True)
    found = in_precision(training_gpu.SHIPPED, bench)
    assert found == {"activation_checkpointing": True, "frozen": "bf16", "mixed_precision": "bf16"}


def failing(bench: Bench) -> dict[str, Any]:
    raise torch.OutOfMemoryError("out of memory\nmore of it")


def test_a_cut_run_goes_on(tmp_path: Path) -> None:
    calls: list[str] = []

    def measured(bench: Bench) -> dict[str, Any]:
        calls.append("x")
        return {"seconds": 1.0, "gb": None}

    path = tmp_path / "results.jsonl"
    todo = [Measurement("video", "keyframes", measured), Measurement("video", "decoding", failing)]
    problems = gpu_results.run(BENCH, todo, gpu_results.Results(path, SETTING, fresh=False), minutes=1)
    assert problems == ["video, decoding failed: OutOfMemoryError: out of memory"]
    with path.open("a") as file:
        file.write('{"table": "video", "ro')  # cut while a line was written
    again = gpu_results.Results(path, SETTING, fresh=False)
    gpu_results.run(BENCH, [*todo[:1], Measurement("video", "decoding", measured)], again, minutes=1)
    assert calls == ["x", "x"], "nothing is measured twice"
    assert gpu_results.Results(path, SETTING, fresh=False).rows == again.rows
    assert "| keyframes | 1.0 |  |" in markdown(again.rows)
    gpu_results.Results(path, SETTING, fresh=True)
    assert path.read_text().count("\n") == 1


def test_a_failure_without_a_word_costs_no_other_figure(tmp_path: Path) -> None:
    def speechless(bench: Bench) -> dict[str, Any]:
        raise AssertionError

    todo = [Measurement("video", "keyframes", speechless), Measurement("video", "decoding", lambda bench: {"ms": 1.0})]
    results = gpu_results.Results(tmp_path / "results.jsonl", SETTING, fresh=False)
    assert gpu_results.run(BENCH, todo, results, minutes=1) == ["video, keyframes failed: AssertionError: "]
    assert results.rows == {"video": {"decoding": {"ms": 1.0}}}


def test_memory_is_given_back_when_a_measurement_failed(tmp_path: Path) -> None:
    """Also what the failure itself holds, and what holds itself."""
    made: list[Any] = []

    class Model:
        def __init__(self) -> None:
            self.forward = self.run  # a cycle, as a graphed or compiled model is one
            made.append(weakref.ref(self))

        def run(self) -> None:
            raise torch.OutOfMemoryError("out of memory")

    def failing_model(bench: Bench) -> dict[str, Any]:
        model = Model()
        model.forward()
        return {}

    def after(bench: Bench) -> dict[str, Any]:
        return {"left": float(made[0]() is not None)}

    todo = [Measurement("video", "keyframes", failing_model), Measurement("video", "decoding", after)]
    results = gpu_results.Results(tmp_path / "results.jsonl", SETTING, fresh=False)
    gpu_results.run(BENCH, todo, results, minutes=1)
    assert results.rows == {"video": {"decoding": {"left": 0.0}}}


def test_what_matters_most_comes_first_and_fits_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    trees = {version: Path() for version in ("1.0", "1.1")}
    monkeypatch.setattr(gpu_measurements, "work_trees", lambda: trees)
    monkeypatch.setenv("COMFYUI_PATH", "ComfyUI")
    monkeypatch.setenv("COMFYUI_PYTHON", "python")
    made = measurements(BENCH, compiled=True)
    first = ("card", "stages", "video", "decoding", "official", "masked")
    count = next(index for index, one in enumerate(made) if one.table not in first)
    assert sum(one.seconds for one in made[:count]) < 8 * 60
    found = {f"{one.table}, {one.row}" for one in made[:count]}
    kept = {f"{table}, {stage.name}" for stage in OUR_STAGES for table in ("stages", "official")}
    assert found >= kept | {"video, decoding", "decoding, 12 GB", "masked, 1", "masked, 4"}


def test_a_comfyui_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = tmp_path / "python"
    hangs.write_text("#!/bin/sh\nexec sleep 60\n")
    hangs.chmod(0o755)
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    monkeypatch.setenv("COMFYUI_PYTHON", str(hangs))
    monkeypatch.setattr(gpu_measurements, "COMFYUI_SECONDS", 0.1)
    with pytest.raises(subprocess.TimeoutExpired):
        gpu_measurements.comfyui_overhead(BENCH)


def test_figures_say_when_they_are_not_of_the_fused_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU; the second measurement's kernels fail to build."""
    runs = iter([True, True, True, False, False, False])
    monkeypatch.setattr(Bench, "on_gpu", True)
    monkeypatch.setattr(Bench, "fused", property(lambda bench: next(runs)))
    todo = [Measurement("stages", name, lambda bench: {"ms": 1.0}) for name in ("a", "b", "c")]
    results = gpu_results.Results(tmp_path / "results.jsonl", SETTING, fresh=False)
    problems = gpu_results.run(BENCH, todo, results, minutes=1)
    assert problems == ["stages, b: a fused kernel failed, torch's own ran from then on (see the log)"]
    assert gpu_results.unfused(results) == ["without the fused kernels: stages, b; stages, c"]


def test_training_choices_that_may_fail_or_take_minutes_come_last() -> None:
    names = [one.row for one in training_gpu.measurements(compiled=True)]
    assert names[0] == "keyframes, as shipped"
    doubtful = [any(word in name for word in ("compiled", "on one card")) for name in names]
    assert doubtful == sorted(doubtful)
    assert any(doubtful)


def test_results_of_another_card_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    gpu_results.Results(path, SETTING, fresh=False)
    with pytest.raises(ValueError, match="--out must name results of"):
        gpu_results.Results(path, SETTING | {"card": "another"}, fresh=False)


def test_no_measurement_begins_that_would_end_too_late(tmp_path: Path) -> None:
    todo = [Measurement("video", "keyframes", failing, seconds=30)]
    results = gpu_results.Results(tmp_path / "results.jsonl", SETTING, fresh=False)
    problems = gpu_results.run(BENCH, todo, results, minutes=0)
    assert problems == ["no time left for video, keyframes: run the same command again"]


def test_floor_and_ratios_are_worked_out() -> None:
    found = {"ms": 100.0, "gb": 1.234, "teraflop": 30.0, "torch_ms": 200.0}
    official = {"ms": 100.0, "official_ms": 300.0, "difference": 0.012}
    rows = {"card": {"matrix product": {"teraflops": 600.0}}, "stages": {"s": found}, "official": {"s": official}}
    assert markdown(rows).splitlines()[-1] == "| s | 100.0 | 200.0 | 50.0 | 2.00 | 1.23 | 300.0 | 3.00 | 0.0120 |"


def test_only_networks_of_one_size_are_compared() -> None:
    steps = {
        "keyframes, as shipped": {"ms": 100.0, "parameters": 2_000_000},
        "keyframes, official network, plainly": {"ms": 250.0, "parameters": 2_000_000},
        "decoder, as shipped": {"ms": 100.0, "parameters": 2_000_000},
        "decoder, official network, plainly": {"ms": 250.0, "parameters": 1_000_000},
    }
    lines = markdown({"training": steps}).splitlines()
    ratios = {
        line.split("|")[1].strip(): line.split("|")[7].strip()
        for line in lines
        if line.startswith(("| keyframes", "| decoder"))
    }
    assert ratios.pop("keyframes, as shipped") == "2.50"
    assert set(ratios.values()) == {""}


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "results.jsonl")
    assert gpu.main(["--small", "--repeats", "1", "--only", "kernels", "--out", out]) == 0
    assert "| U-Net norm, 32 × 384 × 64² |" in capsys.readouterr().out
    assert json.loads(Path(out).read_text().splitlines()[0])["small"] is True
    assert gpu.main(["--small", "--only", "nothing"]) == 2
    assert gpu.main(["--small", "--repeats", "0"]) == 2
    assert "--repeats must be at least 1" in capsys.readouterr().err
    Path(out).write_text("{}\n")
    assert gpu.main(["--small", "--only", "kernels", "--out", out]) == 2
    if not torch.cuda.is_available():
        assert gpu.main([]) == 2
        assert "no GPU: --small" in capsys.readouterr().err
