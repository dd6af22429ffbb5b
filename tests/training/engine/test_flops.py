"""Work is counted as it is defined, and utilisation is its share of what the card could do."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.toy_trainer import settings, toy_trainer
from tests.helpers.training_runs import entries
from training.engine.flops import PEAK_TFLOPS, MetaTwin, Utilisation, peak_tflops

ROWS, WIDTHS = 5, (3, 7, 2)


class Layers(nn.Module):
    """Two matrices."""

    def __init__(self, frozen: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(*WIDTHS[:2], bias=False), nn.Linear(*WIDTHS[1:], bias=False)
        self.first.requires_grad_(not frozen)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return self.second(self.first(x)), None


@pytest.mark.parametrize("frozen", [False, True])
def test_a_pass_costs_two_operations_a_weight_and_row_each_way(frozen: bool) -> None:
    """Forward 2·N·K·M; backward as much for the weights that train, and as much again for inputs that need it."""
    first, second = (2 * ROWS * a * b for a, b in pairwise(WIDTHS))
    found = MetaTwin(Layers(frozen)).flops((torch.randn(ROWS, WIDTHS[0]),), {})
    assert found == (first + second + second if frozen else 2 * first + 3 * second)


def test_counting_changes_nothing(tmp_path: Path) -> None:
    """A run with a card's peak has the losses of one without, and its log says how much of it is used."""
    plain = settings(tmp_path / "plain", activation_checkpointing=True)
    metered = settings(tmp_path / "metered", activation_checkpointing=True, peak_tflops=1e-3, accumulation=1)
    toy_trainer(plain).run()
    trainer = toy_trainer(metered)
    trainer.run()
    one, two = entries(tmp_path / "plain"), entries(tmp_path / "metered")
    assert [entry["loss"] for entry in one] == [entry["loss"] for entry in two]
    assert all("mfu" not in entry for entry in one)
    assert all(entry["mfu"] == pytest.approx(entry["tflops"] / 1e-3) for entry in two)
    used = trainer.meter.utilisation
    assert used is not None
    assert used.flops == 4 * 2 * (4 * 4 + 2 * 4 * 8 + 3 * 8 * 2)  # four rows; the frozen layer before them forward only


def test_what_cannot_be_counted_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = toy_trainer(settings(tmp_path, peak_tflops=1.0))
    assert trainer.meter.twin is not None
    twin: Any = trainer.meter.twin.twin
    twin.forward = lambda x: x.sum().item()
    trainer.run()
    assert capsys.readouterr().out.count("the log has no mfu: RuntimeError: ") == 1
    assert all("mfu" not in entry for entry in entries(tmp_path))


def test_peaks_are_of_cards_in_16_bits() -> None:
    assert peak_tflops(torch.device("cpu"), "bf16") is None
    assert PEAK_TFLOPS["H100"] == 989.0
    names = list(PEAK_TFLOPS)
    for place, name in enumerate(names):
        assert not any(earlier in name for earlier in names[:place]), f"{name} would be taken for an earlier one"
    assert Utilisation(2e12, 4.0).figures(seconds=1.0) == {"tflops": 2.0, "mfu": 0.5}


@pytest.mark.parametrize(
    ("card", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA H100 80GB HBM3", 989.0),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA GeForce RTX 3090 Ti", 71.0),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA A40", 150.0),
        ("NVIDIA RTX A4000", None),
        ("NVIDIA A10G", None),
    ],
)
def test_a_card_is_known_by_whole_words(card: str, peak: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: card)
    assert peak_tflops(torch.device("cuda"), "bf16") == peak
