"""Metrics of videos against their definitions."""

from __future__ import annotations

import pytest
import torch

from training.evaluation.video_metrics import flicker, psnr, ssim


def test_metrics_agree_with_their_definitions() -> None:
    generator = torch.Generator().manual_seed(0)
    video = torch.rand(2, 3, 5, 16, 16, generator=generator) * 1.6 - 0.8
    assert psnr(video + 0.2, video).tolist() == pytest.approx([20.0, 20.0], abs=1e-3)
    assert flicker(video + 0.1, video).abs().max() < 1e-3  # a constant error does not flicker
    blinking = video + 0.02 * torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0]).view(1, 1, 5, 1, 1)
    assert flicker(blinking, video).tolist() == pytest.approx([0.04 * 127.5] * 2, rel=1e-3)
    assert ssim(video, video).tolist() == pytest.approx([1.0, 1.0])
    noise = torch.randn(video.shape, generator=generator)
    assert (ssim(video + 0.3 * noise, video) < ssim(video + 0.1 * noise, video)).all()


def test_an_output_out_of_range_is_clipped() -> None:
    white = torch.ones(1, 3, 2, 16, 16)
    assert psnr(white * 3, white).item() == float("inf")
