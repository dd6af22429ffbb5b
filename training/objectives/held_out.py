"""Validation of the diffusion stages: their loss on held-out clips, always the same ones under the same noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..engine.figures import Means
from ..engine.nested import split_batch
from ..engine.objective import Objective
from ..engine.staging import on_device


@dataclass(frozen=True)
class HeldOutLoss:
    """The loss of `objective`, which draws held-out clips, as `val_...`; and what `more(model)` measures.

    They go through the model `at_once` at a time, as many as a training step has, so that they take no more memory.
    """

    objective: Objective
    at_once: int
    more: Callable[[nn.Module], dict[str, float]] | None = None

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Figures of the model, on its device; sets torch's random stream."""
        torch.manual_seed(0)
        batch, means = self.objective.make_batch(np.random.default_rng(1)), Means()
        for part, count in split_batch(batch, self.at_once):
            loss, figures = self.objective.loss(model, on_device(part, device_of(model)))
            for name, value in {"loss": loss.detach(), **figures}.items():
                # A number for the whole part counts for each of its clips.
                alone = not isinstance(value, Tensor) or value.ndim == 0
                means.add({name: torch.as_tensor(value).expand(count) if alone else value})
        more = self.more(model) if self.more else {}
        return {f"val_{name}": value for name, value in {**means.means(), **more}.items()}


def device_of(model: nn.Module) -> torch.device:
    """Where the model computes."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
