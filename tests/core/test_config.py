"""Configs survive JSON, and the presets have the sizes of the models they name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from fusionframes_core.checkpoints import build
from fusionframes_core.config import ModelConfig, from_dict, to_dict
from fusionframes_core.conversion_unet import UNET_RULES, rename
from fusionframes_core.presets import KANDINSKY_VIDEO_1_0, KANDINSKY_VIDEO_1_1, PRESETS
from fusionframes_core.settings import size_multiple

# Preset, part, parameters in millions (the official checkpoints').
SIZES = [
    ("kandinsky-video-1.0", "keyframe", 4143.7),
    ("kandinsky-video-1.0", "interpolation", 3872.6),
    ("kandinsky-video-1.0", "movq", 270.6),
    ("kandinsky-video-1.1", "keyframe", 4149.1),
    ("kandinsky-video-1.1", "interpolation", 3979.9),
    ("kandinsky-video-1.1", "movq", 666.1),
]
MANIFESTS = [
    ("manifest_kv10_kandinsky_video.unet.json", KANDINSKY_VIDEO_1_0.keyframe, "keyframe"),
    ("manifest_kv10_kandinsky_video_interpolation.unet.json", KANDINSKY_VIDEO_1_0.interpolation, "interpolation"),
    ("manifest_kv11_t2v.unet.json", KANDINSKY_VIDEO_1_1.keyframe, "keyframe"),
    ("manifest_kv11_interpolation.unet.json", KANDINSKY_VIDEO_1_1.interpolation, "interpolation"),
]


@pytest.mark.parametrize("name", PRESETS)
def test_configs_survive_json(name: str) -> None:
    config = PRESETS[name]
    assert from_dict(ModelConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_unknown_and_missing_keys_are_named() -> None:
    data = to_dict(PRESETS["tiny"])
    data["movq"]["colour"] = data["movq"].pop("channels")
    with pytest.raises(ValueError, match=r"MoVQConfig: unknown keys \['colour'\], missing keys \['channels'\]"):
        from_dict(ModelConfig, data)


@pytest.mark.parametrize(("preset", "part", "millions"), SIZES)
def test_official_sizes(preset: str, part: str, millions: float) -> None:
    model = build(getattr(PRESETS[preset], part), device="meta")
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize(("manifest", "config", "kind"), MANIFESTS)
def test_official_checkpoints_fit_the_presets(golden_dir: Path, manifest: str, config: object, kind: str) -> None:
    path = golden_dir / manifest
    if not path.is_file():
        pytest.skip(f"no {manifest} in {golden_dir}")
    shapes = {rename(key, UNET_RULES[kind]): tuple(shape) for key, shape in json.loads(path.read_text()).items()}
    model = build(config, device="meta")  # type: ignore[arg-type]
    assert {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()} == shapes


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
