"""Previews of latents: the fitted colours and the sheet of all frames."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from fusionframes_core.media.latent_preview import LatentColours, fit_latent_colours, preview_sheet
from fusionframes_core.models.movq.movq import MoVQ


class LinearCodec(nn.Module):
    """An encoder that really is linear: 8×8 means of the colours, mixed into four channels and shifted."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.randn(4, 3, generator=torch.Generator().manual_seed(1)))

    def encode(self, pixels: Tensor) -> Tensor:
        """(B, 3, 1, H, W) -> (B, 4, 1, H/8, W/8)."""
        means = nn.functional.avg_pool2d(pixels[:, :, 0], 8)
        return (torch.einsum("cr,brhw->bchw", self.mix, means) + 0.3).unsqueeze(2)


def fitted() -> tuple[LinearCodec, LatentColours]:
    codec = LinearCodec()
    return codec, fit_latent_colours(cast(MoVQ, codec))


def test_fit_recovers_colours_of_a_linear_encoder() -> None:
    """Colours that such an encoder encoded come back."""
    codec, colours = fitted()
    pixels = torch.rand(1, 3, 2, 2).repeat_interleave(8, 2).repeat_interleave(8, 3)
    with torch.no_grad():
        latents = codec.encode((pixels * 2 - 1).unsqueeze(2))
    torch.testing.assert_close(colours.frames(latents[0])[0], pixels[0, :, ::8, ::8], atol=1e-4, rtol=0)


def test_sheet_shows_every_frame_in_reading_order() -> None:
    """Frame k of T is the k-th cell, row by row; unused cells stay black."""
    colours = LatentColours(weight=torch.eye(3, 4), bias=torch.zeros(3))
    levels = torch.linspace(0.2, 1.0, 7)
    latents = levels.view(1, 7, 1, 1).expand(4, 7, 8, 8)
    sheet = preview_sheet(latents, colours, longest=512)
    assert sheet.shape == (504, 504, 3)  # 3 × 3 cells of 8 × 8 latents, 21 pixels each
    assert sheet.dtype == torch.uint8
    cells = sheet[84::168, 84::168, 0].flatten()
    assert cells.tolist() == [*(levels * 255).round().int().tolist(), 0, 0]


def test_sheet_of_a_long_or_wide_video_stays_small() -> None:
    """241 frames are thinned to 64, the first and the last among them; latents larger than the limit are not scaled."""
    colours = LatentColours(weight=torch.eye(3, 4), bias=torch.zeros(3))
    ramp = torch.linspace(0, 1, 241).view(1, 241, 1, 1).expand(4, 241, 2, 2)
    sheet: Any = preview_sheet(ramp, colours, longest=512)
    assert sheet.shape == (512, 512, 3)
    assert (sheet[0, 0, 0], sheet[-2, -2, 0], sheet[-1, -1, 0]) == (0, 255, 0)
    wide = preview_sheet(torch.zeros(4, 4, 4, 16), colours, longest=20)
    assert wide.shape == (16, 16, 3)
