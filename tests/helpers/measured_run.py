"""How much memory the parts of a run take, in a process of its own: `python -m tests.helpers.measured_run FOLDER`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.harness import CLEAR_REFS, status_mb
from tests.helpers.toy_trainer import settings
from training.engine.figures import Figures
from training.engine.objective import Batch, StageSpec
from training.engine.trainer import Trainer

WIDTH, LAYERS = 1536, 12
MODEL_MB = WIDTH * (WIDTH + 1) * LAYERS * 4 / 1e6


class Wide:
    """An objective with small batches, so that weights are nearly all of the memory."""

    def make_batch(self, rng: np.random.Generator) -> Batch:
        """`x` (4, WIDTH)."""
        return {"x": torch.from_numpy(rng.normal(size=(4, WIDTH))).float()}

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Figures]:
        """A squared error."""
        return (model(batch["x"]) - batch["x"]).square().mean(), {}


def growth(work: Callable[[], Any]) -> float:
    """MB by which `work` raises this process's memory."""
    CLEAR_REFS.write_text("5")
    before = status_mb("VmRSS")
    work()
    return status_mb("VmHWM") - before


def main(folder: Path) -> None:
    """Print the growth of a step, of a measurement with averaged weights and of a checkpoint, at once and behind."""
    torch.set_num_threads(1)
    found: dict[str, float] = {}
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))
    trainer = Trainer(settings(folder), model, Wide(), StageSpec("wide"))
    batch = Wide().make_batch(np.random.default_rng(0))
    for _ in range(2):  # the optimizer's states are there
        trainer._train_step()
    found["step"] = growth(trainer._train_step)
    found["measuring"] = growth(lambda: trainer._evaluate(lambda averaged: float(averaged(batch["x"]).sum())))
    found["checkpoint"] = growth(trainer.save)
    trainer.writer.background = True
    found["background"] = growth(lambda: (trainer.save(), trainer.writer.finish()))
    print(json.dumps(found | {"model": MODEL_MB}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
