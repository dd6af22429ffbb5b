"""What a checkpoint keeps of a run: weights that train, buffers, averages and optimizer states; and all of it back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from .averaging import Average
from .checkpoint_parts import own_portion
from .optimizers import load_optimizer, optimizer_portion
from .run_checkpoints import Checkpoints, damage_named


class RunState:
    """A model, its optimizer and its averages as this run's processes hold them."""

    def __init__(
        self,
        accelerator: Accelerator,
        module: nn.Module,
        names: list[str],
        optimizer: Any,
        average: Average,
        frozen: str,
    ) -> None:
        """`names` of the parameters that train, in the order of `average`; `frozen`: fingerprint of the others."""
        self.accelerator, self.module, self.names, self.average = accelerator, module, names, average
        self.optimizer: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
        self.frozen = frozen

    def kept(self) -> dict[str, Tensor]:
        """The model's tensors but the frozen ones, which the run's own inputs bring back."""
        frozen = {name for name, parameter in self.module.named_parameters() if not parameter.requires_grad}
        return {name: value for name, value in self.module.state_dict().items() if name not in frozen}

    def portions(self) -> dict[str, dict[str, Tensor]]:
        """What this process writes, by part; the tensors are the run's own."""
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        averages = dict(zip(self.names, self.average.values, strict=True))
        return {
            "model": own_portion(self.kept(), rank, processes),
            "optimizer": optimizer_portion(self.optimizer, self.names, self.average.parameters, rank, processes),
            "average": own_portion(averages, rank, processes),
        }

    def load(self, checkpoints: Checkpoints, path: Path) -> dict[str, Any]:
        """Take everything from a checkpoint; its progress. Raises ValueError for one that does not fit."""
        kept, averages = self.kept(), dict(zip(self.names, self.average.values, strict=True))
        shapes = {"model": _shapes(kept), "average": _shapes(averages)}
        progress = checkpoints.check(path, shapes, self.frozen)
        for part, targets in (("model", kept), ("average", averages)):
            with damage_named(path), checkpoints.open(path, part, progress) as stored:
                for name, target in targets.items():
                    stored.fill(name, target)
        with damage_named(path), checkpoints.open(path, "optimizer", progress) as stored:
            load_optimizer(self.optimizer, self.names, self.average.parameters, stored)
        return progress


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in tensors.items()}
