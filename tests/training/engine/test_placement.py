"""Choices of `train:` that change how a step is computed and not what: equal losses, names and checkpoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.training_step import RandomLatents
from fusionframes_core.models.unet.unet import UNet
from fusionframes_core.presets import TINY
from tests.helpers.toy_trainer import settings
from tests.helpers.training_runs import stored
from training.engine.objective import StageSpec
from training.engine.sharding import CHECKPOINTED, own_rows
from training.engine.trainer import Trainer

# One level without attention: two stages down and two up.
FLAT = replace(
    TINY.keyframe, channel_mult=(1,), num_blocks=(2,), cross_attention=(False,), self_attention=(False,), groups=8,
    model_channels=16, init_channels=16, head_dim=16,
)  # fmt: skip


def trainer(folder: Path, config: Any = FLAT, steps: int = 2, **changes: Any) -> Trainer:
    """Of every parameter of a U-Net."""
    torch.manual_seed(0)
    train = settings(folder, steps=steps, batch_size=1, learning_rate=1e-4, checkpoint_every=steps, **changes)
    return Trainer(train, UNet(config), RandomLatents(1, 2), StageSpec("unet"))


def test_channels_last_changes_the_layout_alone(tmp_path: Path) -> None:
    plain, turned = trainer(tmp_path / "plain"), trainer(tmp_path / "turned", channels_last=True)
    kernels = [parameter for parameter in turned.module.parameters() if parameter.ndim == 4 and parameter.shape[2] > 1]
    assert kernels
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    wanted, found = ([one._train_step() for _ in range(2)] for one in (plain, turned))
    assert found == pytest.approx(wanted, rel=1e-5)
    turned.save()
    trainer(tmp_path / "turned", steps=3).run()  # a checkpoint knows no layout
    assert stored(tmp_path / "turned", "model").keys() == plain.module.state_dict().keys()
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


@pytest.mark.slow
def test_compiled_blocks_compute_the_same(tmp_path: Path) -> None:
    """With checkpointing too; the names of the weights stay, so that either goes on with the other's checkpoint."""
    plain, compiled = trainer(tmp_path / "a"), trainer(tmp_path / "b", compile=True, activation_checkpointing=True)
    blocks = [module for module in compiled.module.modules() if isinstance(module, CHECKPOINTED)]
    assert len(blocks) == 4
    assert all(block._compiled_call_impl is not None for block in blocks)
    wanted, found = ([one._train_step() for _ in range(2)] for one in (plain, compiled))
    assert found == pytest.approx(wanted, rel=1e-5)
    assert plain.module.state_dict().keys() == compiled.module.state_dict().keys()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"shard": "full", "optimizer": "adamw8bit"}, "shard full does not go with optimizer adamw8bit: 8-bit states"),
        ({"shard": "full", "channels_last": True}, "shard full does not go with channels_last true: FSDP takes plain"),
        ({"frozen": "bf16"}, "frozen bf16 does not go with mixed_precision no: frozen weights in 16 bits need"),
        ({"frozen": "bf16", "mixed_precision": "fp16"}, "frozen bf16 does not go with mixed_precision fp16"),
        ({"peak_tflops": 0.0}, "peak_tflops must be greater than 0; got 0.0"),
        ({"frozen": "fp8"}, "frozen must be one of same, bf16; got 'fp8'"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        settings(tmp_path, **changes)


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 9])
def test_shards_are_cut_as_torch_cuts(rows: int) -> None:
    """Which rows of the whole each of four processes has."""

    class Mesh:
        def __init__(self, rank: int) -> None:
            self.rank = rank

        def get_local_rank(self) -> int:
            return self.rank

        def size(self) -> int:
            return 4

    class Sharded:
        def __init__(self, rank: int) -> None:
            self.device_mesh, chunks = Mesh(rank), torch.arange(rows).chunk(4)
            self.shard = chunks[rank] if rank < len(chunks) else torch.arange(0)

        def __len__(self) -> int:
            return rows

        def to_local(self) -> torch.Tensor:
            return self.shard

    for rank in range(4):
        sharded: Any = Sharded(rank)
        first, last = own_rows(sharded)
        assert torch.arange(rows)[first:last].tolist() == sharded.shard.tolist()
