"""Configs survive JSON, and the presets agree with themselves (test_unet_parity and test_movq_parity: with the official
checkpoints)."""

from __future__ import annotations

import dataclasses
import json

import pytest

from fusionframes_core.config import ModelConfig, from_dict, to_dict
from fusionframes_core.presets import PRESETS
from fusionframes_core.settings import size_multiple


@pytest.mark.parametrize("name", PRESETS)
def test_configs_survive_json(name: str) -> None:
    config = PRESETS[name]
    assert from_dict(ModelConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_unknown_and_missing_keys_are_named() -> None:
    data = to_dict(PRESETS["tiny"])
    data["movq"]["colour"] = data["movq"].pop("channels")
    with pytest.raises(ValueError, match=r"MoVQConfig: unknown keys \['colour'\], missing keys \['channels'\]"):
        from_dict(ModelConfig, data)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_agree_with_themselves(name: str) -> None:
    """Text, keyframe and interpolation share the context; latents, sizes and channels fit together."""
    config = PRESETS[name]
    trunk = config.interpolation.trunk
    assert config.text.context_dim == config.keyframe.context_dim == trunk.context_dim
    assert config.movq.latent_channels == config.keyframe.out_channels == 4
    assert (trunk.in_channels, trunk.out_channels, trunk.temporal) == (20, 12, "none")
    assert config.keyframe.in_channels == (9 if config.keyframe.image_input else 4)
    assert all(side % size_multiple(config) == 0 for side in config.size)
    assert {field.name for field in dataclasses.fields(config)} == set(to_dict(config))
