"""A stage that trains in milliseconds: `python -m tests.helpers.toy_trainer --config FILE`, for tests of the engine."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from training.engine.companions import SILENCE
from training.engine.figures import Figures
from training.engine.objective import Batch, StageSpec
from training.engine.run_settings import TrainSettings
from training.engine.stage_command import run_command
from training.engine.trainer import Trainer


class Toy(nn.Module):
    """Two layers that train and one that does not."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second, self.frozen = nn.Linear(4, width), nn.Linear(width, 2), nn.Linear(4, 4)
        self.frozen.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 4) to (B, 2)."""
        return self.second(torch.tanh(self.first(self.frozen(x))))


class ToyObjective:
    """Batches that are all new, and a loss that draws noise; `trainer`, once there is one, says which step it is."""

    def __init__(self, batch_size: int, pause: float = 0.0, **spoiled: object) -> None:
        """`pause`: seconds that drawing a batch takes; `spoiled`: as for `toy_trainer`."""
        self.batch_size, self.pause, self.spoiled = batch_size, pause, spoiled
        self.trainer: Trainer | None = None

    def make_batch(self, rng: np.random.Generator) -> Batch:
        """`x` (B, 4), and something that is no tensor."""
        time.sleep(self.pause)
        x = torch.from_numpy(rng.normal(size=(self.batch_size, 4))).float()
        return {"x": x, "words": ["one", "two"]}

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Figures]:
        """The error of the first two numbers, and a figure of some samples only."""
        assert self.trainer is not None
        x, step = batch["x"], self.trainer.step
        if step == self.spoiled.get("nan_at"):
            x[0, 0] = torch.nan
        if step == self.spoiled.get("factor_at"):
            x *= 1e4
        noisy = x + 0.1 * torch.randn_like(x)
        error = (model(noisy) - x[:, :2]).square().mean()
        if step == self.spoiled.get("gradient_nan_at"):
            error = error + torch.sqrt(0 * error)  # 0, with a slope of 0 · ∞
        return error, {"largest": x.abs().max().item(), "positive": x[x[:, 0] > 0, 0]}


class Failing:
    """The trainer's own objective, until this process fails at a step; only once in a folder."""

    def __init__(self, trainer: Trainer, how: str, step: int) -> None:
        self.trainer, self.how, self.step = trainer, how, step
        self.objective, self.done = trainer.objective, trainer.settings.output / "failed"

    def make_batch(self, rng: np.random.Generator) -> Batch:
        """The objective's, or none."""
        if self.trainer.step == self.step and not self.done.exists():
            self.done.touch()
            if self.how == "raises":
                raise ValueError("clips must be whole")
            os.kill(os.getpid(), signal.SIGKILL if self.how == "killed" else signal.SIGSTOP)
        return self.objective.make_batch(rng)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Figures]:
        """The objective's."""
        return self.objective.loss(model, batch)


def toy_spec(stage: str = "toy", built: Any = None) -> StageSpec:
    """Of the stage `stage`, with black samples and the architecture `built`."""
    return StageSpec(stage, architecture=built or {}, sample=lambda model: np.zeros((3, 16, 16, 3), np.uint8))


def toy_trainer(
    train: TrainSettings, width: int = 8, spec: StageSpec | None = None, pause: float = 0.0, **spoiled: object
) -> Trainer:
    """A trainer of the toy, by default of the stage "toy".

    `nan_at`, `factor_at`, `gradient_nan_at`: the steps whose batch has a NaN, or is far too large, or whose gradient
    is not finite though the loss is.
    """
    torch.manual_seed(train.seed)
    objective = ToyObjective(train.batch_size, pause, **spoiled)
    objective.trainer = Trainer(train, Toy(width), objective, spec or toy_spec())
    return objective.trainer


def settings(folder: Path, **changes: Any) -> TrainSettings:
    """A run of ten steps."""
    values = {"output": folder, "steps": 10, "batch_size": 4, "learning_rate": 0.01, "warmup_steps": 2}
    more = {"decay_steps": 1, "log_every": 2, "checkpoint_every": 4, "trackers": []}
    return TrainSettings(**{**values, **more, **changes})


def train(
    train: TrainSettings,
    width: int = 8,
    stage: str = "toy",
    pause: float = 0.0,
    fails: str = "",
    fails_at: int = -1,
    silence: float = SILENCE,
) -> None:
    """Train the toy and write `toy.safetensors`.

    Args:
        train: the run.
        width: of the hidden layer.
        stage: what the checkpoints are named after.
        pause: seconds that drawing a batch takes.
        fails: how the last process ends at step `fails_at`, once: "raises", "killed" (SIGKILL) or "stopped" (SIGSTOP).
        fails_at: that step.
        silence: seconds without a sign of life that the others wait.
    """
    trainer = toy_trainer(train, width, toy_spec(stage), pause)
    trainer.companions.silence = silence
    if fails and trainer.accelerator.is_last_process:
        trainer.objective = Failing(trainer, fails, fails_at)
    trainer.run()
    trainer.export("toy.safetensors")


if __name__ == "__main__":
    run_command(train)
