"""Files of a host's saving nodes: prefixes before the names, and the configuration as a tensor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fusionframes_core.checkpoints.checkpoint_info import identify
from fusionframes_core.checkpoints.embedded_config import CONFIG_TENSOR, config_tensor, config_text
from fusionframes_core.checkpoints.open_model import load_config, model_folder, open_component
from fusionframes_core.errors import CheckpointError

TINY = model_folder("tiny")


def test_a_configuration_survives_as_bytes() -> None:
    config = load_config(TINY)
    assert f'"name": "{config.name}"' in config_text(config_tensor(config))


@pytest.mark.parametrize(
    ("part", "prefix"), [("keyframe", "model.diffusion_model."), ("interpolation", ""), ("movq", "first_stage_model.")]
)
def test_a_saved_component_opens_without_a_folder(tmp_path: Path, part: str, prefix: str) -> None:
    """Kind, sizes, weights and null embedding come from the file alone; other tensors of the host's are left."""
    weights, file = load_file(TINY / f"{part}.safetensors"), tmp_path / "saved.safetensors"
    null = torch.arange(128.0)
    saved = {prefix + name: value for name, value in weights.items()}
    extra = {"v_pred": torch.zeros(0), "text.null_embedding": null, CONFIG_TENSOR: config_tensor(load_config(TINY))}
    if part == "movq":
        extra = {CONFIG_TENSOR: extra[CONFIG_TENSOR]}
    elif not prefix:
        extra.pop("v_pred")
    save_file({**saved, **extra}, file)
    component = open_component(file)
    assert component.kind.name == part
    assert component.model == load_config(TINY)
    state = component.load().state_dict()
    assert all(torch.equal(state[name], value.float()) for name, value in weights.items())
    if component.kind.is_unet:
        assert torch.equal(component.null_embedding(), null)


def test_a_configuration_that_is_none_is_named(tmp_path: Path) -> None:
    file = tmp_path / "broken.safetensors"
    weights = load_file(TINY / "movq.safetensors")
    save_file({**weights, CONFIG_TENSOR: torch.tensor([123, 125], dtype=torch.uint8)}, file)
    with pytest.raises(CheckpointError, match=r"broken\.safetensors holds no configuration of a model"):
        open_component(file)


def test_prefixes_do_not_make_other_models_ours() -> None:
    """Stable Diffusion's checkpoints have the same prefixes."""
    names = {"model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3), "first_stage_model.x": (1,)}
    assert identify(names).kind is None
