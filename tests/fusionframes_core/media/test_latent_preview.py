"""Previews of latents: the fitted colours and the sheet of all frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from fusionframes_core.checkpoints.open_model import model_folder, open_model
from fusionframes_core.errors import CheckpointError
from fusionframes_core.media.latent_preview import (
    COLOURS_FILE,
    LatentColours,
    fit_latent_colours,
    preview_sheet,
    read_colours,
    write_colours,
)
from fusionframes_core.models.movq.movq import MoVQ

KEPT = 0.02  # of [0, 1]: the decoder gives a plain frame back so well, or does not know it
GREYS = [(level, level, level) for level in torch.linspace(0, 1, 21).tolist()]
SHAPE_COLOURS = [(0.9, 0.15, 0.15), (0.12, 0.7, 0.25), (0.14, 0.25, 0.92), (0.98, 0.9, 0.08), (0.98, 0.98, 0.98)]


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


def test_greys_of_a_linear_encoder_stay_grey() -> None:
    """Every level, within a hundredth: what the fit gives for an autoencoder whose videos are not at hand."""
    codec, colours = fitted()
    frames = torch.tensor(GREYS).T[None, :, :, None, None].expand(1, 3, len(GREYS), 16, 16)
    with torch.no_grad():
        shown = torch.cat([colours.frames(codec.encode(frames[:, :, [index]] * 2 - 1)[0]) for index in range(21)])
    torch.testing.assert_close(shown, frames[0].movedim(1, 0)[..., :2, :2], atol=0.01, rtol=0)


@pytest.fixture(scope="module")
def bundled() -> tuple[MoVQ, LatentColours]:
    """The bundled autoencoder and the colours beside it."""
    colours = read_colours(model_folder("tiny"))
    assert colours is not None
    return open_model("tiny").components["movq"].load(), colours


@torch.no_grad()
def plain_frames(movq: MoVQ, levels: list[tuple[float, float, float]]) -> tuple[Tensor, Tensor, Tensor]:
    """Plain frames (N, 3), their latents (4, N, h, w) and what the decoder makes of these (N, 3)."""
    wanted = torch.tensor(levels)
    pixels = wanted.T[None, :, :, None, None].expand(1, 3, len(levels), 64, 64) * 2 - 1
    latents = movq.encode(pixels)
    decoded = torch.cat([movq.decode(latents[:, :, [index]]) for index in range(len(levels))], dim=2)
    return wanted, latents[0], decoded[0].mean((-1, -2)).T / 2 + 0.5


def test_a_grey_frame_previews_as_grey(bundled: tuple[MoVQ, LatentColours]) -> None:
    """Within 10 % at every level that the bundled autoencoder itself gives back; and no level gets a colour."""
    movq, colours = bundled
    wanted, latents, decoded = plain_frames(movq, GREYS)
    shown = colours.frames(latents).mean((-1, -2))
    known = (decoded - wanted).abs().amax(1) < KEPT * 2
    error = (shown - wanted).abs().amax(1)
    print(f"error by level: {[f'{value:.2f}' for value in error.tolist()]}, known: {known.tolist()}")
    assert known.sum() >= 8
    assert error[known].max() <= 0.1
    assert (shown.amax(1) - shown.amin(1)).max() <= 0.1


def test_a_sampled_frame_previews_as_it_decodes(bundled: tuple[MoVQ, LatentColours]) -> None:
    """A shape of each colour before grey: the preview differs from the decoded frame by 10 % at most, on average."""
    movq, colours = bundled
    frames = torch.full((len(SHAPE_COLOURS), 3, 64, 64), 105 / 255)
    for frame, colour in zip(frames, SHAPE_COLOURS, strict=True):
        frame[:, 22:42, 22:42] = torch.tensor(colour)[:, None, None]
    with torch.no_grad():
        latents = movq.encode((frames * 2 - 1).movedim(0, 1)[None])
        decoded = movq.decode(latents)[0].movedim(0, 1) / 2 + 0.5
    shown = colours.frames(latents[0])
    error = (shown - nn.functional.adaptive_avg_pool2d(decoded, shown.shape[-2:])).abs().mean((1, 2, 3))
    print(f"error by colour: {[f'{value:.3f}' for value in error.tolist()]}")
    assert error.max() <= 0.1


def test_colours_of_a_folder_come_back(tmp_path: Path) -> None:
    """Written, read; a folder without them has none; another file is refused by name."""
    assert read_colours(tmp_path) is None
    colours = LatentColours(torch.arange(12.0).view(3, 4) / 8, torch.tensor([0.5, 0.25, 0.125]))
    write_colours(colours, tmp_path)
    again = read_colours(tmp_path)
    assert again is not None
    assert again.weight.equal(colours.weight)
    assert again.bias.equal(colours.bias)
    (tmp_path / COLOURS_FILE).write_text('{"weight": [[1, 2]], "bias": [0]}')
    with pytest.raises(CheckpointError, match=COLOURS_FILE):
        read_colours(tmp_path)


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
