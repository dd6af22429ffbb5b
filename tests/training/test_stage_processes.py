"""The real stages in one process and in two, launched as a user does: equal losses, and weights that load anywhere."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fusionframes_core.checkpoints.state_dict import save_weights
from fusionframes_core.models.movq.movq import MoVQ
from fusionframes_core.presets import TINY
from tests.helpers.training_runs import finish, losses
from training.data.preparing import prepare
from training.data.recipe import Recipe
from training.data.streams import MovingShapes

pytestmark = pytest.mark.slow
BUNDLED = Path(__file__).resolve().parents[2] / "fusionframes_core" / "tiny"
STEPS = 3
# Stage → its module, the file that it writes, and what it starts from.
STAGES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "keyframes": ("train_keyframes", "keyframe", {"init": str(BUNDLED / "keyframe.safetensors")}),
    "interpolation": ("train_interp", "interpolation", {"init": str(BUNDLED / "interpolation.safetensors")}),
    "decoder": ("train_decoder", "movq", {"frames": 4}),
    "lora": ("train_lora", "lora", {}),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos as `python -m training.prepare` leaves them, and the image autoencoder to start the decoder from."""
    folder = tmp_path_factory.mktemp("prepared")
    prepare(MovingShapes(2, 0, False), folder / "data", Recipe(TINY.size, ("latents", "pixels"), min_frames=181))
    image = MoVQ(dataclasses.replace(TINY.movq, decoder="image")).state_dict()
    movq = load_file(BUNDLED / "movq.safetensors")
    save_weights({name: movq[name] for name in image}, folder / "image.safetensors", dtype=torch.float32)
    return folder


def run(folder: Path, prepared: Path, stage: str, processes: int, **train: Any) -> tuple[dict[int, float], Any]:
    """A stage's losses and weights after a global batch of two for each step."""
    module, file, options = STAGES[stage]
    if stage == "decoder":
        options = {**options, "movq": str(prepared / "image.safetensors")}
    settings = {"output": str(folder / "run"), "steps": STEPS, "batch_size": 1, "learning_rate": 1e-4}
    settings |= {"warmup_steps": 1, "decay_steps": 0, "log_every": 1, "checkpoint_every": 1, "trackers": []}
    settings |= {"accumulation": 2 // processes, **train}
    folder.mkdir(exist_ok=True)
    config = folder / f"{processes}_{settings['steps']}.yaml"
    config.write_text(json.dumps({"train": settings, "data": [str(prepared / "data")], **options}))
    finish(config, processes, "accelerate", f"training.{module}")
    return losses(folder / "run"), load_file(folder / "run" / f"{file}.safetensors")


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_train_as_one(tmp_path: Path, prepared: Path, stage: str) -> None:
    """Equal global batches, equal losses; the averaged weights agree too."""
    one, weights = run(tmp_path / "one", prepared, stage, 1)
    two, others = run(tmp_path / "two", prepared, stage, 2)
    assert len(one) == STEPS
    assert two == pytest.approx(one, rel=1e-4)
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, rtol=1e-2, atol=1e-4, msg=name)


@pytest.mark.parametrize(("stage", "shard"), [("keyframes", "optimizer"), ("interpolation", "full")])
def test_shards_of_a_stage_go_on_in_one_process(tmp_path: Path, prepared: Path, stage: str, shard: str) -> None:
    """ZeRO stage 1 and FSDP in two processes for a step; their checkpoint goes on in one, with the losses of one."""
    wanted, _ = run(tmp_path / "one", prepared, stage, 1)
    run(tmp_path / "parts", prepared, stage, 2, shard=shard, steps=1)
    found, weights = run(tmp_path / "parts", prepared, stage, 1, shard=shard)
    assert found == pytest.approx(wanted, rel=1e-4)
    assert all(value.isfinite().all() for value in weights.values())
