"""Batches: split by samples, moved as a whole, whatever they are made of."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from training.engine.nested import map_tensors, split_batch, tensors_in
from training.engine.staging import DeviceCopies, on_device


@dataclass(frozen=True)
class Text:
    """Contexts and their masks."""

    context: Tensor
    mask: Tensor


BATCH = {
    "latents": torch.arange(10.0).reshape(5, 2),
    "text": Text(torch.arange(5), torch.ones(5, dtype=torch.bool)),
    "pair": (torch.arange(5), torch.arange(5) + 1),
    "words": "five clips",
}


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_parts_put_together_are_the_batch(size: int) -> None:
    parts = list(split_batch(BATCH, size))
    assert [count for _, count in parts] == [min(size, 5 - first) for first in range(0, 5, size)]
    for index, whole in enumerate(tensors_in(BATCH)):
        assert torch.equal(torch.cat([tensors_in(part)[index] for part, _ in parts]), whole)
    assert all(part["words"] == "five clips" and isinstance(part["text"], Text) for part, _ in parts)


def test_every_tensor_is_reached() -> None:
    assert len(tensors_in(BATCH)) == 5
    doubled = map_tensors(BATCH, lambda tensor: tensor * 2)
    assert torch.equal(doubled["text"].context, torch.arange(5) * 2)
    assert torch.equal(doubled["pair"][1], (torch.arange(5) + 1) * 2)


def test_on_a_cpu_nothing_is_copied() -> None:
    copies = DeviceCopies(torch.device("cpu"))
    assert copies.finish(copies.start(BATCH)) is BATCH
    moved = on_device(BATCH, torch.device("meta"))
    assert all(tensor.is_meta for tensor in tensors_in(moved))
