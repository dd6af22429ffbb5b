"""What a step takes: counted on the meta device, against real steps; and what sharing and packing make of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fusionframes_core.presets import TINY
from tests.helpers.measured_step import CASES
from training.accounting import fitting
from training.accounting.card_memory import GB, PlannedStage, Setting, memory_parts, speed, total
from training.accounting.cpu_rules import cpu_scratch
from training.accounting.fitting import check_fits, first_that_fits
from training.accounting.gpu_rules import GpuRules
from training.accounting.live_memory import LiveMemory
from training.accounting.network_steps import ClipShape, keyframe_step
from training.accounting.stage_plans import LoraPlan, plan_decoder, plan_interpolation
from training.accounting.traced_step import Sizes, Trace, TracedAs, trace_step
from training.engine.run_settings import TrainSettings
from training.objectives.adapters import AdapterSettings
from training.train_decoder import DecoderStage
from training.train_interp import InterpolationStage
from training.train_keyframes import KeyframeStage

ROOT = Path(__file__).resolve().parents[3]
SMALL = ClipShape(2, 8, 8, 4)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_live_memory_is_what_is_held(device: str) -> None:
    """Three tensors of 4 kB, of which two live at once; a view costs nothing; a known tensor does not count."""
    given = torch.empty(1000, device=device)
    with LiveMemory([given]) as memory:
        first = given + 1
        second = first * 2
        view = second[:10]
        del first, second
        assert memory.live == 4000
        third = view.new_empty(1000)
        assert memory.live == 8000
        del view, third
    assert memory.live == 0
    assert memory.peak == 8000


def test_views_and_sums_in_place_take_no_memory() -> None:
    memory = LiveMemory()
    with memory:
        first = torch.empty(100, device="meta")
        second = first + first
        del first
        third = second.view(10, 10).add_(1)
    assert (memory.live, memory.peak) == (400, 800)
    del second, third
    assert memory.live == 0


def test_operations_are_those_of_the_products() -> None:
    """Two for each multiplication and addition, in both directions; attention's products count without its scores."""
    x, weight = torch.empty(3, 5, device="meta"), torch.empty(7, 5, device="meta", requires_grad=True)
    with LiveMemory() as memory:
        F.linear(x, weight).sum().backward()
    assert memory.operations == 2 * (2 * 3 * 5 * 7)
    query = torch.empty(1, 2, 64, 32, device="meta", requires_grad=True)
    with LiveMemory() as memory:
        attend = GpuRules(memory).around(lambda q: F.scaled_dot_product_attention(q, q, q))
        out = attend(query)
        assert memory.peak == out.nbytes + 2 * 64 * 4, "the result, and a number for each query"
        out.sum().backward()
    assert memory.operations == 7 * 2 * (2 * 64 * 64 * 32)


def test_a_step_counts_what_trains() -> None:
    """Gradients and moments of image weights too, where all of a keyframe U-Net trains."""
    temporal, whole = (trace_step(keyframe_step(TINY, SMALL, parts=parts), TracedAs()) for parts in ("temporal", "all"))
    assert whole.sizes.frozen == 0 < temporal.sizes.frozen
    assert whole.sizes.trainable == temporal.sizes.trainable + temporal.sizes.frozen
    assert whole.peak > temporal.peak


def test_autocast_keeps_what_torch_keeps() -> None:
    """Products in 16 bits, norms in 32; the copy of a weight that trains lives as long as the forward pass."""
    weight = torch.empty(64, 64, device="meta", requires_grad=True)
    kinds: list[torch.dtype] = []

    def forward(x: Tensor) -> Tensor:
        for _ in range(3):
            x = F.linear(x, weight)
            kinds.append(x.dtype)
            x = F.layer_norm(x, (64,))
            kinds.append(x.dtype)
        return x

    with LiveMemory([weight]) as memory, torch.no_grad():
        out = GpuRules(memory, torch.bfloat16).around(forward, remember=True)(torch.empty(1, 64, device="meta"))
        assert memory.peak < 2 * (64 * 64 * 2), "one copy, not three"
        del out
    assert kinds == [torch.bfloat16, torch.float32] * 3


@pytest.mark.parametrize(
    ("kernel", "height", "scratch", "unfolds"),
    [((3, 3, 3), 6, cpu_scratch, True), ((3, 3, 3), 6, None, False), ((3, 1, 1), 6, cpu_scratch, False),
     ((3, 3, 3), 1000, cpu_scratch, False)],
)  # fmt: skip
def test_a_cpu_unfolds_what_3d_kernels_see(kernel: Any, height: int, scratch: Any, unfolds: bool) -> None:
    """27 numbers for each of a small input's, forward and backward; a card, kernels over time and large inputs none."""
    x = torch.empty(1, 8, 4, height, 6, device="meta", requires_grad=True)
    weight = torch.empty(8, 8, *kernel, device="meta", requires_grad=True)
    with LiveMemory([x, weight], scratch) as memory:
        out = F.conv3d(x, weight, padding=tuple(side // 2 for side in kernel))
        assert memory.peak == out.nbytes + unfolds * 27 * x.nbytes
        memory.peak = 0
        out.sum().backward()
    assert (memory.peak > 27 * x.nbytes) == unfolds


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from Linux's /proc")
@pytest.mark.parametrize("case", CASES)
def test_the_count_agrees_with_measured_peaks(case: str) -> None:
    """Within 10 %: what a process's resident memory grows by in a real step on the CPU, and the count."""
    at_once = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}  # freed memory goes back at once
    ran = subprocess.run(
        [sys.executable, "-m", "tests.helpers.measured_step", case],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **at_once},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    step, how = CASES[case]
    measured, counted = json.loads(ran.stdout)["rss"], trace_step(step, replace(how, device="cpu")).peak
    print(f"{case}: measured {measured / 1e6:.0f} MB, counted {counted / 1e6:.0f} MB")
    assert counted == pytest.approx(measured, rel=0.1)


@pytest.mark.slow
def test_checkpointing_takes_less_memory_and_more_work() -> None:
    """And earlier gradients stay beside the activations."""
    step = keyframe_step(TINY, SMALL)
    plain, less = (trace_step(step, TracedAs(checkpointing=on)) for on in (False, True))
    assert less.peak < plain.peak
    assert less.operations > plain.operations
    later = trace_step(step, TracedAs(checkpointing=True, accumulates=True))
    assert later.peak >= later.sizes.trainable_bytes
    assert later.peak >= less.peak


TRACE = Trace(Sizes(100, 400, 50, 200, 30), 1000, 10**6)


def test_parts_are_shared_by_cards() -> None:
    """The optimizer's states alone by ZeRO, everything that trains by FSDP, and nothing by plain copies."""
    alone = memory_parts(TRACE, Setting(), 1)
    assert alone["optimizer"] == 800
    assert alone["activations"] == 600
    assert "exchange" not in alone
    copies, zero, full = (memory_parts(TRACE, Setting(shard=shard), 4) for shard in ("none", "optimizer", "full"))
    assert copies["optimizer"] == 800
    assert zero["optimizer"] == 200
    assert zero["gradients"] == 400
    assert full["weights that train"] == full["gradients"] == full["average"] == 100
    assert full["frozen weights"] == 50
    assert memory_parts(TRACE, Setting(optimizer="adamw8bit"), 1)["optimizer"] < 0.26 * 800


def planned(setting: Setting, has_base: bool = False) -> PlannedStage:
    """A stage whose memory is known without a network."""
    bytes_of = {"fp32": 4, "bf16": 2, "8bit": 1, "4bit": 0.5}
    step = keyframe_step(TINY, SMALL)

    class Known(PlannedStage):
        def weights(self) -> int:
            return 10**12

        def trace(self, setting: Setting) -> Trace:
            activations = int((1 if setting.checkpointing else 8) * 10 * GB)
            frozen = int(bytes_of[setting.base] * 2 * GB) // (2 if setting.frozen == "bf16" else 1)
            trained = int(GB) // 10
            return Trace(Sizes(trained, 4 * trained, int(2 * GB), frozen, 0), activations + 4 * trained, 10**12)

    return Known("a stage", setting, lambda base: step, steps=1000, has_base=has_base)


def test_the_first_setting_that_fits_costs_least() -> None:
    """Nothing where it fits; checkpointing before smaller weights; None where nothing helps."""
    stage = planned(Setting(), has_base=True)
    own = total(stage, stage.setting, 1)
    assert first_that_fits(stage, 1, own) == ([], stage.setting)
    found = first_that_fits(stage, 1, own - 1)
    assert found is not None
    assert found[0] == ["train.activation_checkpointing: true"]
    tight = first_that_fits(stage, 1, total(stage, replace(stage.setting, checkpointing=True, base="8bit"), 1))
    assert tight is not None
    assert tight[0] == ["train.activation_checkpointing: true", "base: 8bit"]
    assert first_that_fits(stage, 1, 10 * GB) is None


def test_what_cannot_fit_is_one_sentence() -> None:
    """With what to change; nothing is said where it fits, or where a device does not tell."""
    stage = planned(Setting(), has_base=True)
    check_fits(stage, 1, None)
    check_fits(stage, 1, 100 * GB)
    with pytest.raises(ValueError, match=r"a stage cannot fit: it takes about 90.8 GB .* 24.0 GB are free; say train"):
        check_fits(stage, 1, 24 * GB)
    with pytest.raises(ValueError, match="take a smaller size, fewer frames, or a larger card"):
        check_fits(stage, 1, 2 * GB)


@pytest.mark.parametrize("stage", [KeyframeStage, InterpolationStage, DecoderStage])
def test_a_stage_says_so_before_its_weights_load(stage: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of weights is not even looked for; two processes share a computer's memory."""
    asked = []
    monkeypatch.setattr(fitting, "available_bytes", lambda device: 2_000_000)
    monkeypatch.setattr(fitting, "total", lambda plan, setting, cards: asked.append(cards) or 2e9)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    movq = {"movq": tmp_path / "none.safetensors"} if stage is DecoderStage else {}
    with pytest.raises(ValueError, match=r"cannot fit: it takes about 2.0 GB on each card, and 0.0 GB are free"):
        stage(replace(TRAIN, output=tmp_path), **movq).run()
    assert set(asked) == {2}


def test_speed_is_arithmetic() -> None:
    """Twice the cards, half the days; frames and tokens follow from the clips."""
    stage = planned(Setting(clips=2, accumulation=3))
    one, two = speed(stage, 1, 1e12), speed(stage, 2, 1e12)
    assert two.days == pytest.approx(one.days / 2)
    assert one.clips == pytest.approx(2.0)
    assert one.frames == pytest.approx(2 * SMALL.frames)
    assert one.tokens == pytest.approx(one.frames * SMALL.height * SMALL.width)
    assert one.days == pytest.approx(1000 * 2 * 3 * 8 / 2.0 / 86400)


TRAIN = TrainSettings(Path("runs"), 10, 1, 1e-3, activation_checkpointing=True)


@pytest.mark.parametrize("part", ["keyframe", "interpolation"])
def test_a_lora_holds_its_base_in_as_many_bits(part: str) -> None:
    """Most of the weights shrink; what trains is the adapters."""
    plan = LoraPlan(part, AdapterSettings(4), "attention").stage(TINY, TRAIN)
    frozen = {}
    for base in ("fp32", "bf16", "8bit", "4bit"):
        sizes = trace_sizes(plan, base)
        frozen[base] = sizes.frozen_bytes
        assert sizes.trainable < 0.1 * sizes.frozen
    assert frozen["bf16"] == frozen["fp32"] / 2
    assert frozen["8bit"] < 0.6 * frozen["bf16"]
    assert frozen["4bit"] < 0.4 * frozen["bf16"]


def trace_sizes(plan: PlannedStage, base: str) -> Sizes:
    """The sizes alone, of the network as it is built."""
    from training.accounting.traced_step import sizes_of

    build: Callable = plan.step(base).build
    with torch.device("meta"):
        return sizes_of(build(), torch.bfloat16)


def test_every_stage_has_a_plan() -> None:
    """At the tiny model's sizes: what trains is what the stage trains."""
    interpolation = trace_sizes(plan_interpolation(TINY, TRAIN), "fp32")
    assert interpolation.frozen == 0
    temporal, decoder = (trace_sizes(plan_decoder(TINY, TRAIN, 4, parts), "fp32") for parts in ("temporal", "decoder"))
    assert 0 < temporal.trainable < decoder.trainable
