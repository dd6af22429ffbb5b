"""The evaluation of decoders, with stand-ins of which one flickers."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.helpers.video_tools import double, halve, nearest
from training.evaluation.decoder_quality import evaluate_decoder


def test_a_decoder_that_flickers_loses() -> None:
    generator = torch.Generator().manual_seed(0)

    def flickering(latents: Tensor) -> Tensor:
        video = double(latents)
        return video + 0.1 * torch.randn(video.shape, generator=generator)

    decoders = {"temporal": double, "image": flickering}
    report = evaluate_decoder(halve, decoders, nearest, clips=1, size=32)
    assert set(report["latents"]) == {"true", "noised", "interpolated"}
    assert all(report["reached"].values())
    swapped = evaluate_decoder(halve, {"temporal": flickering, "image": double}, clips=1, size=32)
    assert set(swapped["latents"]) == {"true", "noised"}
    assert not any(swapped["reached"].values())
