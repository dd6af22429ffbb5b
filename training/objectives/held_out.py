"""Validation of the diffusion stages: their loss on held-out clips, always the same ones under the same noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..engine.figures import held_out_figures
from ..engine.objective import Objective


@dataclass(frozen=True)
class HeldOutLoss:
    """The loss of `objective`, which draws held-out clips, as `val_...`; and what `more(model)` measures."""

    objective: Objective
    more: Callable[[nn.Module], dict[str, float]] | None = None

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Figures of the model; sets torch's random stream."""
        torch.manual_seed(0)
        batch = self.objective.make_batch(np.random.default_rng(1))
        loss, figures = self.objective.loss(model, batch)
        return held_out_figures(loss, {**figures, **(self.more(model) if self.more else {})})
