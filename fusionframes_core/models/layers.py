"""The layers that every model is made of, and the namespace they are taken from.

A model takes an `operations` namespace and makes each layer as `operations.Linear(..., device=, dtype=)`, so that a host
can slot in layers that cast, offload or patch their weights. `TorchOperations` is the default: torch's own layers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Alpha(nn.Module):
    """A learned merge weight α (paper, eq. 3): one number, kept as a leaf layer so that a host can cast and patch it."""

    def __init__(self, device: Any = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, device=device, dtype=dtype))
        self.bias = None

    def forward(self, x: Tensor) -> Tensor:
        """α as a tensor of shape (1,), in the type and on the device of `x`."""
        return self.weight.to(device=x.device, dtype=x.dtype)


class TorchOperations:
    """Layers from torch.nn, plus `Alpha`; a host's namespace has the same names and signatures."""

    Linear = nn.Linear
    Conv2d = nn.Conv2d
    Conv3d = nn.Conv3d
    ConvTranspose2d = nn.ConvTranspose2d
    GroupNorm = nn.GroupNorm
    LayerNorm = nn.LayerNorm
    Embedding = nn.Embedding
    Alpha = Alpha
