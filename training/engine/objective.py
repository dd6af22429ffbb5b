"""What a stage gives the training loop: batches and their loss, and what a run reports beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from .figures import Figures

Batch = Mapping[str, Any]
Validate = Callable[[nn.Module], dict[str, float]]
"""The model with averaged weights, on its device and in its shards → figures on held-out data; in every process."""
Sampler = Callable[[nn.Module], np.ndarray]
"""The model with averaged weights, likewise → a video, uint8 (T, H, W, 3)."""


class Objective(Protocol):
    """What is minimised."""

    def make_batch(self, rng: np.random.Generator) -> Batch:
        """A batch that depends on `rng` alone, never on torch's own stream: it may be made in another thread."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Figures]:
        """The loss, a scalar, and figures for the log. Noise comes from torch's own stream."""
        ...


@dataclass(frozen=True)
class StageSpec:
    """A run's name, its checkpoints' architecture, and what it measures and shows meanwhile.

    `frames` is how many frames a clip of the batch has. `architecture` (configs, nested) is kept with checkpoints: a
    run is resumed with the same one only.
    """

    name: str
    frames: int = 1
    architecture: Mapping[str, Any] = field(default_factory=dict)
    validate: Validate | None = None
    sample: Sampler | None = None
