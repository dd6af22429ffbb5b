"""The memory that tensors hold while operations run, and the operations' arithmetic, counted on the meta device.

A tensor of the meta device has a shape, a type and a storage of that many bytes, but no memory. So the step of a model
of any size is counted anywhere.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

Scratch = Callable[[Any, Sequence[Any]], int]


class LiveMemory(TorchDispatchMode):
    """Inside, `live` is the bytes of every storage that an operation made and that is still held, `peak` the most.

    `operations` counts the arithmetic (a multiplication and an addition are two) of products, convolutions and
    attention, by the formulas of torch.utils.flop_counter. Storages of the tensors `known` do not count. `scratch` says
    how many bytes a device's kernel takes for itself while it runs an operation on arguments.
    """

    def __init__(self, known: Iterable[Tensor] = (), scratch: Scratch | None = None) -> None:
        super().__init__()
        self.scratch = scratch
        self.live = self.peak = self.operations = 0
        self._sizes: dict[int, int] = {}
        for tensor in known:
            self._hold(tensor.untyped_storage(), 0)

    def __torch_dispatch__(
        self, function: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self._hold(storage, storage.nbytes())
        if self.scratch is not None:
            self.peak = max(self.peak, self.live + self.scratch(function._overloadpacket, args))
        count = flop_registry.get(function._overloadpacket)
        if count is not None:
            operands = [value for value in args if not isinstance(value, torch.dtype)]  # a result's type is no operand
            self.operations += int(count(*operands, **(kwargs or {}), out_val=out))
        return out

    def _hold(self, storage: torch.UntypedStorage, size: int) -> None:
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = size
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._let_go, key)

    def _let_go(self, key: int) -> None:
        self.live -= self._sizes.pop(key)
