"""What the steps of a stage have in common, computed in the first and kept until the stage ends.

A step changes the latents and the time. What the text, the frames' positions or the given frames' noise alone make is
the same in all steps: the pooled text, keys and values of attention to the text, embeddings of positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

Found = TypeVar("Found")


class StageMemo:
    """Belongs to one condition of one stage: neither the condition nor the weights change while it lives."""

    def __init__(self) -> None:
        self._found: dict[Any, Any] = {}

    def holds(self, key: Any) -> bool:
        """Whether something is kept by that key."""
        return key in self._found

    def once(self, key: Any, compute: Callable[[], Found]) -> Found:
        """compute(), of the first call with this key."""
        if key not in self._found:
            self._found[key] = compute()
        return self._found[key]


def once(memo: StageMemo | None, key: Any, compute: Callable[[], Found]) -> Found:
    """compute(), once where there is a memo; anew for gradients and where the compiler traces what is computed."""
    if memo is None or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return compute()
    return memo.once(key, compute)
