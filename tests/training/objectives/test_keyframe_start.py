"""What the keyframe stage starts from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fusionframes_core.checkpoints.state_dict import save_weights
from fusionframes_core.models.temporal import temporal_parameters
from fusionframes_core.models.unet.temporal_layers import TemporalConv3dBlock, TemporalConvLayer
from fusionframes_core.models.unet.unet import UNet
from fusionframes_core.presets import TINY
from training.objectives.initial_weights import image_config
from training.objectives.keyframe_start import choose_trained, keyframe_model

OTHERS = ("conv1d_attn3d_blocks", "conv3d_attn1d_blocks", "conv1d_attn1d_layers")


@pytest.mark.parametrize("temporal", [TINY.keyframe.temporal, *OTHERS])
def test_start_is_image_weights_under_the_temporal_parts_of_init(tmp_path: Path, temporal: str) -> None:
    """With both files spatial weights are the image's and temporal ones init's; `parts` chooses what trains."""
    torch.manual_seed(0)
    image, init = UNet(image_config(TINY.keyframe)), UNet(replace(TINY.keyframe, temporal=temporal))
    save_weights(image.state_dict(), tmp_path / "image.safetensors", dtype=torch.float32)
    save_weights(init.state_dict(), tmp_path / "init.safetensors", dtype=torch.float32)
    model = keyframe_model(TINY.keyframe, tmp_path / "image.safetensors", tmp_path / "init.safetensors", temporal)
    parts = dict(temporal_parameters(init))
    for chosen, trained in (("temporal", parts), ("all", dict(model.named_parameters())), ("temporal", parts)):
        choose_trained(model, chosen)
        assert {name for name, value in model.named_parameters() if value.requires_grad} == set(trained)
    for name, value in model.state_dict().items():
        source = parts[name] if name in parts else image.state_dict()[name]
        assert torch.equal(value, source), name


@pytest.mark.parametrize("temporal", OTHERS)
def test_start_of_another_conditioning_takes_what_fits(tmp_path: Path, temporal: str) -> None:
    """Spatial weights and the attention's are those of init; what init has nothing for does nothing yet."""
    torch.manual_seed(0)
    init = UNet(TINY.keyframe)
    save_weights(init.state_dict(), tmp_path / "init.safetensors", dtype=torch.float32)
    model = keyframe_model(TINY.keyframe, None, tmp_path / "init.safetensors", temporal)
    old, new = init.state_dict(), model.state_dict()
    names = {name for name, _ in temporal_parameters(model)}
    assert all(torch.equal(value, old[name]) for name, value in new.items() if name not in names)
    attention = [name for name in names if name.endswith("attention.to_query.weight")]
    assert attention
    for name in attention:
        own = name.replace("self_attention_block.temporal.", "temporal_attention_block.")
        assert torch.equal(new[name], old[own]), name
    fresh = [part for part in model.modules() if isinstance(part, (TemporalConv3dBlock, TemporalConvLayer))]
    assert len(fresh) > 0 or temporal == "conv1d_attn3d_blocks"
    assert all(not layer.weight.any() for part in fresh for layer in part.zero_layers())


def test_what_trains_is_named() -> None:
    """Anything else is an error that says what is allowed."""
    with pytest.raises(ValueError, match="parts must be one of temporal, all; got 'spatial'"):
        choose_trained(UNet(TINY.keyframe, device="meta"), "spatial")


def test_start_needs_weights() -> None:
    """Neither file is an error that names both arguments."""
    with pytest.raises(ValueError, match="image or init must name the weights"):
        keyframe_model(TINY.keyframe, None, None)
