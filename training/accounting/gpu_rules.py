"""What a GPU does otherwise than the meta device: attention without scores in memory, and autocast."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fusionframes_core.kernels.wide_attention import WIDEST_FUSED

from .live_memory import LiveMemory

LOW: frozenset[Any] = frozenset(
    {
        F.linear,
        F.conv1d,
        F.conv2d,
        F.conv3d,
        F.conv_transpose2d,
        torch.matmul,
        torch.bmm,
        Tensor.matmul,
        Tensor.__matmul__,
    }
    | {torch.conv2d, torch.conv3d, torch.conv_transpose2d, F.scaled_dot_product_attention}
)
HIGH: frozenset[Any] = frozenset({F.group_norm, F.layer_norm, F.softmax, F.mse_loss, F.l1_loss, torch.softmax})
"""Of torch's autocast on CUDA: what computes in the low type, and what in float32; everything else as it comes."""


class GpuRules(TorchFunctionMode):
    """Inside, calls keep on the meta device what they keep on a GPU, under autocast to `low` if that is given.

    As torch's own, autocast keeps the cast copy of a parameter that trains until the model's forward is over.
    """

    def __init__(self, memory: LiveMemory, low: torch.dtype | None = None, widest: float = WIDEST_FUSED) -> None:
        """`widest`: channels of a head that a fused attention kernel takes; wider ones hold their scores."""
        super().__init__()
        self.memory, self.low, self.widest = memory, low, widest
        self._copies: dict[int, Tensor] | None = None
        self._inside = False

    def around(self, forward: Callable, remember: bool = False) -> Callable:
        """`forward` under the rules: of a model, which may `remember` copies, or of a block that is computed again."""

        @functools.wraps(forward)
        def ruled(*arguments: Any) -> Any:
            if self._inside:
                return forward(*arguments)
            self._inside, self._copies = True, {} if remember else None
            try:
                with self:
                    return forward(*arguments)
            finally:
                self._inside, self._copies = False, None

        return ruled

    def __torch_function__(
        self, function: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if self.low is not None and (function in LOW or function in HIGH):
            wanted = self.low if function in LOW else torch.float32
            args = [self._cast(value, wanted) for value in args]
            kwargs = {name: self._cast(value, wanted) for name, value in kwargs.items()}
        if function is F.scaled_dot_product_attention and args[0].is_meta and args[0].shape[-1] <= self.widest:
            return FlashAttention.apply(*args[:3], self.memory)
        return function(*args, **kwargs)

    def _cast(self, value: Any, wanted: torch.dtype) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.dtype == wanted:
            return value
        if self._copies is None or not (value.is_leaf and value.requires_grad):
            return value.to(wanted)
        if id(value) not in self._copies:
            self._copies[id(value)] = value.to(wanted)
        return self._copies[id(value)]


class FlashAttention(torch.autograd.Function):
    """What a fused attention kernel keeps for its backward pass: operands, result, and one number for each query."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, memory: LiveMemory) -> Tensor:
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        ctx.memory = memory
        memory.operations += 2 * _product(query, key)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        query, key, value, *_ = ctx.saved_tensors
        ctx.memory.operations += 5 * _product(query, key)  # of which one computes the scores again
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None


def _product(query: Tensor, key: Tensor) -> int:
    """Operations of Q·Kᵀ."""
    return 2 * query.numel() * key.shape[-2]
