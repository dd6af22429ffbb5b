"""The errors of reconstructed videos against their definitions."""

from __future__ import annotations

import pytest
import torch

from training.objectives.reconstruction import ReconstructionLoss, batch_psnr, flicker_loss, foreground_weight


def picture() -> torch.Tensor:
    """A grey frame with a white square on a quarter of it."""
    pixels = torch.full((1, 3, 1, 8, 8), -0.2)
    pixels[..., 2:6, 2:6] = 1.0
    return pixels


def test_the_shape_weighs_more_than_the_background() -> None:
    """An error on the square counts as often as its weight says, over the mean weight."""
    pixels = picture()
    assert foreground_weight(pixels, 4.0).unique().tolist() == [1.0, 4.0]
    loss = ReconstructionLoss(shape_weight=4.0, l1_weight=1.0, l2_weight=2.0)
    on_shape, on_background = pixels.clone(), pixels.clone()
    on_shape[..., 2, 2] += 0.5
    on_background[..., 0, 0] += 0.5
    mean_weight = (3 * 1.0 + 4.0) / 4
    wanted = (1.0 * 0.5 + 2.0 * 0.25) / 64 / mean_weight
    assert loss(on_background, pixels).item() == pytest.approx(wanted)
    assert loss(on_shape, pixels).item() == pytest.approx(4 * wanted)
    assert loss(pixels, pixels).item() == 0


def test_psnr_of_a_batch_is_that_of_its_mean_error() -> None:
    """Not the mean of the videos' own."""
    truth = torch.zeros(2, 3, 2, 4, 4)
    output = truth.clone()
    output[0] += 0.2
    assert batch_psnr(output, truth) == pytest.approx(10 * torch.log10(torch.tensor(4.0 / 0.02)).item())


def test_a_constant_error_does_not_flicker() -> None:
    truth = torch.rand(1, 3, 5, 4, 4)
    assert flicker_loss(truth + 0.1, truth).item() == pytest.approx(0, abs=1e-6)
    blinking = truth + 0.1 * torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0]).view(1, 1, 5, 1, 1)
    assert flicker_loss(blinking, truth).item() == pytest.approx(0.2, rel=1e-5)
