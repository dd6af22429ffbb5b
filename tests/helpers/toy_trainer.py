"""A stage that trains in milliseconds: `python -m tests.helpers.toy_trainer --config FILE`, for tests of the engine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from training.engine.figures import Figures
from training.engine.run_settings import TrainSettings
from training.engine.stage_command import run_command
from training.engine.trainer import Batch, Trainer


class Toy(nn.Module):
    """Two layers that train and one that does not."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second, self.frozen = nn.Linear(4, width), nn.Linear(width, 2), nn.Linear(4, 4)
        self.frozen.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 4) to (B, 2)."""
        return self.second(torch.tanh(self.first(self.frozen(x))))


def toy_trainer(
    train: TrainSettings, width: int = 8, stage: str = "toy", pause: float = 0.0, **more: object
) -> Trainer:
    """A trainer whose every batch is new, and whose loss draws noise.

    `nan_at`, `factor_at`, `gradient_nan_at`: the steps whose batch has a NaN, or is far too large, or whose gradient
    is not finite though the loss is.
    """
    torch.manual_seed(train.seed)
    nan_at, factor_at = more.get("nan_at"), more.get("factor_at")
    trainer: Trainer

    def make_batch(rng: np.random.Generator) -> Batch:
        time.sleep(pause)
        x = torch.from_numpy(rng.normal(size=(train.batch_size, 4))).float()
        return {"x": x, "words": ["one", "two"]}

    def loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Figures]:
        x = batch["x"]
        if trainer.step == nan_at:
            x[0, 0] = torch.nan
        if trainer.step == factor_at:
            x *= 1e4
        noisy = x + 0.1 * torch.randn_like(x)
        error = (model(noisy) - x[:, :2]).square().mean()
        if trainer.step == more.get("gradient_nan_at"):
            error = error + torch.sqrt(0 * error)  # 0, with a slope of 0 · ∞
        return error, {"largest": x.abs().max().item(), "positive": x[x[:, 0] > 0, 0]}

    def sample(model: nn.Module) -> np.ndarray:
        return np.zeros((3, 16, 16, 3), np.uint8)

    trainer = Trainer(
        train, Toy(width), loss, make_batch, stage=stage, sample=sample, frames=1, architecture=more.get("built")
    )
    return trainer


def settings(folder: Path, **changes: Any) -> TrainSettings:
    """A run of ten steps."""
    values = {"output": folder, "steps": 10, "batch_size": 4, "learning_rate": 0.01, "warmup_steps": 2}
    more = {"decay_steps": 1, "log_every": 2, "checkpoint_every": 4, "trackers": []}
    return TrainSettings(**{**values, **more, **changes})


def train(train: TrainSettings, width: int = 8, stage: str = "toy", pause: float = 0.0) -> None:
    """Train the toy and write `toy.safetensors`.

    Args:
        train: the run.
        width: of the hidden layer.
        stage: what the checkpoints are named after.
        pause: seconds that drawing a batch takes.
    """
    trainer = toy_trainer(train, width, stage, pause)
    trainer.run()
    trainer.export("toy.safetensors")


if __name__ == "__main__":
    run_command(train)
