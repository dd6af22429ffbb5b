"""Frames told apart: the embedding stays as it was, and its units can make any function of the frame."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fusionframes_core.config import UNetConfig
from fusionframes_core.models.layers import LayerFactory, TorchOperations
from fusionframes_core.models.unet.keyframe_unet import frame_positions
from fusionframes_core.models.unet.temporal_layers import TEMPORAL_BLOCKS
from fusionframes_core.models.unet.unet_layers import ScalarEmbedding, UNetSpec, sinusoidal
from fusionframes_core.presets import PRESETS, TINY
from training.objectives.distinct_frames import SHARE, tell_frames_apart


def embedding(config: UNetConfig) -> ScalarEmbedding:
    torch.manual_seed(0)
    layers = LayerFactory(TorchOperations, None, None)
    return ScalarEmbedding(UNetSpec(config, layers, TEMPORAL_BLOCKS[config.temporal]))


def span(embed: ScalarEmbedding, positions: Tensor) -> float:
    """The least over the largest singular value of what the hidden units give at `positions`."""
    hidden = F.silu(embed.linear_in(sinusoidal(positions, embed.dim)))
    values = torch.linalg.svdvals(hidden.detach().double())
    return float(values[-1] / values[0])


@pytest.mark.parametrize("preset", list(PRESETS))
def test_output_stays_and_frames_are_told_apart(preset: str) -> None:
    """At every preset's positions; those that are spread over 0…180, as 1.0's, are told apart as it is."""
    config = PRESETS[preset]
    embed = embedding(config.keyframe)
    positions = frame_positions(config.frame_positions, config.num_frames)
    before, narrow = embed(positions, torch.float32).detach(), span(embed, positions)
    tell_frames_apart(embed, positions)
    assert torch.allclose(embed(positions, torch.float32), before, atol=1e-5)
    assert span(embed, positions) > 0.01
    assert narrow > 0.1 if config.frame_positions == "spread" else narrow < 1e-3


def test_three_quarters_of_the_units_stay() -> None:
    """The sharp ones are those that did least."""
    embed = embedding(TINY.keyframe)
    with torch.no_grad():
        embed.linear_out.weight[:, :64] *= 1e-3
    old = embed.linear_in.weight.detach().clone()
    tell_frames_apart(embed, torch.arange(16.0))
    changed = (embed.linear_in.weight != old).any(dim=1)
    assert changed.sum() == len(old) // SHARE
    assert changed[:64].all()


def test_another_function_of_the_frame_is_learned_sooner() -> None:
    """Of signs that alternate in threes, as a star's corners, a hundred steps learn most; without, hardly any."""
    positions = torch.arange(16.0)
    target = torch.cos(2 * torch.pi / 3 * positions)[:, None].expand(-1, TINY.keyframe.time_embed_dim)
    left = {}
    for distinct in (False, True):
        embed = embedding(TINY.keyframe)
        if distinct:
            tell_frames_apart(embed, positions, torch.Generator().manual_seed(1))
        optimizer = torch.optim.AdamW(embed.parameters(), lr=1e-3)
        for _ in range(100):
            loss = F.mse_loss(embed(positions, torch.float32), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        left[distinct] = loss.item()
    assert left[True] < 0.05 < 0.25 < left[False]


def test_too_few_units_are_an_error() -> None:
    """It says how many there have to be."""
    with pytest.raises(ValueError, match="distinct_frames needs an embedding of at least 400 units for 100 frames"):
        tell_frames_apart(embedding(TINY.keyframe), torch.arange(100.0))
