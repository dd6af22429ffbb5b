"""Averaged weights (EMA): beside the model, and in its place while something is measured or drawn.

The average is torch's own (`torch.optim.swa_utils.get_ema_multi_avg_fn`). Its `AveragedModel` is not used: it copies
the whole model, frozen parts too, and knows no shards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from .sharding import local_shard


class Average:
    """Exponential moving average of the trainable parameters, in each process's own shard of them."""

    def __init__(self, parameters: list[nn.Parameter], decay: float) -> None:
        self.parameters, self.count = parameters, 0
        self.values = [parameter.detach().clone() for parameter in parameters]
        self._average = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(self) -> None:
        """Average in the parameters after one more step; the first ones are copied."""
        if self.count == 0:
            self.apply_to(self.values, self.parameters)
        else:
            self._average([local_shard(v) for v in self.values], [local_shard(p) for p in self.parameters], self.count)
        self.count += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averaged weights meanwhile, and the average the model's: nothing is held twice."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the parameters and their averages in place, one after the other."""
        for value, parameter in zip(self.values, self.parameters, strict=True):
            average, weight = local_shard(value), local_shard(parameter)
            kept = weight.clone()
            weight.copy_(average)
            average.copy_(kept)

    def apply(self) -> None:
        """Give the model the averaged weights for good."""
        self.apply_to(self.parameters, self.values)

    @staticmethod
    @torch.no_grad()
    def apply_to(targets: list[Tensor] | list[nn.Parameter], values: list[Tensor] | list[nn.Parameter]) -> None:
        """Copy this process's shards of `values` into those of `targets`."""
        torch._foreach_copy_([local_shard(target) for target in targets], [local_shard(value) for value in values])
