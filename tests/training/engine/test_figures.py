"""Means over samples, parts and processes are means over all of them."""

from __future__ import annotations

import json

import pytest
import torch

from training.engine.figures import Means


def test_every_sample_counts_alike() -> None:
    """However they are dealt out to batches, and though some batch has none of them."""
    values = torch.arange(7.0)
    whole, parts = Means(), Means()
    whole.add({"error": values})
    for chosen in (values[:4], values[4:4], values[4:]):
        parts.add({"error": chosen})
    assert parts.means() == whole.means() == {"error": 3.0}


def test_a_number_is_one_batchs() -> None:
    found = Means()
    found.add({"psnr": 30.0})
    found.add({"psnr": 20.0})
    assert found.means() == {"psnr": 25.0}


def test_a_figure_of_nothing_is_left_out() -> None:
    """Its place in `flat` stays, so that processes agree on the order."""
    found = Means()
    found.add({"low": torch.empty(0), "high": torch.tensor([2.0, 4.0])})
    assert found.means() == {"high": 3.0}
    assert found.flatten() == [6.0, 2, 0.0, 0]


def test_adding_up_over_processes_and_going_through_json_lose_nothing() -> None:
    one, two, both = Means(), Means(), Means()
    one.add({"a": torch.tensor([0.1, 0.2]), "b": 1.0})
    two.add({"b": 3.0, "a": torch.tensor([0.4])})
    summed = Means(json.loads(json.dumps(one.sums)))
    summed.unflatten([x + y for x, y in zip(summed.flatten(), two.flatten(), strict=True)])
    both.merge(one)
    both.merge(two)
    assert summed.means() == both.means() == {"a": pytest.approx(0.7 / 3), "b": 2.0}
