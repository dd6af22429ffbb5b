"""The paper's configs as they are shipped, at reduced size: they start, step, stop and go on to the same bits.

`python -m benchmarks.training_rehearsal` does the same at any width, in processes of their own.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.our_stages import SMALL_TRUNK, shrunk
from benchmarks.training_rehearsal import STAGES, write_start
from fusionframes_core.presets import PAPER, TINY
from tests.helpers.training_runs import finish, losses, stored
from training.engine.run_checkpoints import Checkpoints
from training.engine.stage_command import run_stage
from training.train_decoder import DecoderStage
from training.train_interp import InterpolationStage
from training.train_keyframes import KeyframeStage

pytestmark = pytest.mark.slow
STEPS = 20
CLASSES = {"keyframes": KeyframeStage, "interpolation": InterpolationStage, "decoder": DecoderStage}
NARROW = shrunk(PAPER)
SHALLOW: dict[str, Any] = {"channel_mult": (1, 2), "num_blocks": (2, 2)}
SHALLOW |= {"cross_attention": (False, True), "self_attention": (False, True)}
SMALL = replace(
    NARROW,
    name="small paper",
    text=replace(TINY.text, context_dim=SMALL_TRUNK["context_dim"]),
    keyframe=replace(NARROW.keyframe, **SHALLOW),
    interpolation=replace(NARROW.interpolation, trunk=replace(NARROW.interpolation.trunk, **SHALLOW)),
    size=(32, 32),
)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights and videos prepared with them."""
    folder = tmp_path_factory.mktemp("paper")
    write_start(SMALL, folder, clips=2)
    return folder


def train(start: Path, name: str, run: str, steps: int) -> None:
    """A stage by its shipped config, which checkpoints half-way."""
    run_stage(CLASSES[name], STAGES[name].arguments(start, run, steps, "--train.checkpoint_every", str(STEPS // 2)))


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_of_the_paper_trains_and_resumes_to_the_same_bits(
    start: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty steps, and the last ten of them again from the checkpoint between: finite losses, and equal weights,
    averages and optimizer states."""
    whole, parts = start / name / "whole", start / name / "parts"
    commit = Checkpoints.commit

    def kept(self: Checkpoints, step: int, progress: Any) -> None:
        commit(self, step, progress)
        if step == STEPS // 2 and not parts.exists():
            shutil.copytree(whole, parts)

    monkeypatch.setattr(Checkpoints, "commit", kept)
    train(start, name, f"{name}/whole", STEPS)
    train(start, name, f"{name}/parts", STEPS)
    found = losses(whole)
    assert sorted(found) == list(range(1, STEPS + 1))
    assert all(math.isfinite(loss) for loss in found.values())
    assert found == losses(parts)
    for part in ("model", "average", "optimizer"):
        one, two = stored(whole, part), stored(parts, part)
        assert one.keys() == two.keys() != set()
        assert all(torch.equal(one[key], two[key]) for key in one), part


def test_keyframes_keep_nothing_of_frozen_weights(start: Path) -> None:
    """The checkpoint of the run above: temporal parts alone have averages and states, and are what is stored at all."""
    run = start / "keyframes" / "whole"
    if not run.exists():
        train(start, "keyframes", "keyframes/whole", 1)
    names = stored(run, "average").keys()
    assert names == {key.rpartition("/")[0] for key in stored(run, "optimizer")}
    assert stored(run, "model").keys() == names
    assert all(".temporal" in f".{name}" or "frame_embedding" in name or "_temporal" in name for name in names)


def test_interpolation_in_shards_over_four_processes(start: Path, tmp_path: Path) -> None:
    """`shard: full` with a clip in each, and one process that accumulates four: equal losses."""
    arguments = STAGES["interpolation"].arguments(start, "unused", 3)
    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    for name, processes in (("one", 1), ("four", 4)):
        config = tmp_path / f"{name}.yaml"
        train = {"output": str(tmp_path / name), "steps": 3, "log_every": 1, "checkpoint_every": 3, "trackers": []}
        train |= {"accumulation": 4 // processes, "shard": "full", "mixed_precision": "no", "learning_rate": 1e-4}
        train |= {"batch_size": 1, "warmup_steps": 0, "decay_steps": 0, "activation_checkpointing": True}
        options = {"preset": given["--preset"], "image": given["--image"], "data": [given["--data"]]}
        shares = {"high_share": 0.0, "least_weight": 1.0, "perturbed_share": 1.0, "unconditional_share": 0.1}
        config.write_text(json.dumps({"train": train, **options, **shares}))
        finish(config, processes, "accelerate", "training.train_interp")
    one, four = losses(tmp_path / "one"), losses(tmp_path / "four")
    assert len(one) == 3
    assert four == pytest.approx(one, rel=1e-4)
    assert len(list((tmp_path / "four" / "checkpoints" / "00000003").glob("model-*-of-00004.safetensors"))) == 4
