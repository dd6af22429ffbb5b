"""Laws of the layers over time that both families of blocks share."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fusionframes_core.models.layers import Conv3d
from fusionframes_core.models.movq.movq import MoVQ
from fusionframes_core.models.temporal import (
    TemporalPart,
    draw_weights,
    initialise_temporal,
    temporal_parameters,
    temporal_parts,
)
from fusionframes_core.models.unet.interpolation_unet import InterpolationUNet
from fusionframes_core.models.unet.unet import UNet
from tests.helpers.movq_cases import random_movq
from tests.helpers.unet_cases import interpolation_config, randomise, video_config

MODELS = {
    "keyframe": lambda: UNet(video_config("conv1d_attn1d_blocks", temporal_conditioning="mixed", motion_score=True)),
    "mixed layers": lambda: UNet(video_config("conv1d_attn1d_layers", temporal_place="grid")),
    "interpolation": lambda: InterpolationUNet(interpolation_config()),
    "movq": lambda: random_movq(decoder="conv3_attn"),
    "inflated movq": lambda: random_movq(decoder="conv2d_to_3d"),
}


@pytest.mark.parametrize("layer", [nn.Linear(7, 5), nn.Conv2d(3, 4, 3), Conv3d(4, 6, (3, 1, 1)), nn.Embedding(9, 20)])
def test_drawn_weights_are_torchs(layer: nn.Module) -> None:
    """The numbers of `reset_parameters`, after the same seed."""
    torch.manual_seed(5)
    layer.reset_parameters()
    expected = [parameter.detach().clone() for parameter in layer.parameters()]
    torch.manual_seed(5)
    draw_weights(layer)
    assert all(torch.equal(parameter, value) for parameter, value in zip(layer.parameters(), expected, strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_initialisation_follows_its_generator(name: str) -> None:
    """In both families: the same seed gives the same weights, whatever was there before."""
    drawn = []
    for seed in (1, 1, 2):
        model = randomise(MODELS[name]())
        torch.nn.utils.vector_to_parameters(torch.ones(sum(p.numel() for p in model.parameters())), model.parameters())
        initialise_temporal(model, torch.Generator().manual_seed(seed))
        drawn.append(torch.cat([parameter.detach().flatten() for _, parameter in temporal_parameters(model)]))
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2]) == (name == "inflated movq")  # which draws nothing


@pytest.mark.parametrize("name", MODELS)
def test_no_temporal_part_lies_inside_another(name: str) -> None:
    """Else its parameters would be listed, and drawn, twice."""
    model = MODELS[name]()
    parts = dict(temporal_parts(model))
    assert parts
    for part in parts.values():
        assert [module for module in part.modules() if isinstance(module, TemporalPart)] == [part]
    names = [parameter for parameter, _ in temporal_parameters(model)]
    assert len(names) == len(set(names))
    assert set(names) <= {parameter for parameter, _ in model.named_parameters()}


def test_an_image_model_has_no_temporal_part() -> None:
    for model in (UNet(video_config("none")), random_movq()):
        assert isinstance(model, UNet | MoVQ)
        assert list(temporal_parameters(model)) == []
