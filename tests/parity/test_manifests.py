"""Every key of every full-size checkpoint is one parameter of ours, in the same shape, and finds its way back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fusionframes_core.checkpoints.architecture import interpolation_config, movq_config, unet_config
from fusionframes_core.checkpoints.checkpoint_info import identify
from fusionframes_core.checkpoints.component import build
from fusionframes_core.checkpoints.names import to_official
from fusionframes_core.presets import KANDINSKY_VIDEO_1_0, KANDINSKY_VIDEO_1_1
from tests.helpers.parity_cases import FOLDER, MANIFESTS

CONFIGS: dict[str, Any] = {"keyframe": unet_config, "interpolation": interpolation_config, "movq": movq_config}
# the official file -> its kind and version, the preset's configuration, millions of parameters
EXPECTED = {
    "kv10_kandinsky_video.unet": ("keyframe", "1.0", KANDINSKY_VIDEO_1_0.keyframe, 4140),
    "kv10_kandinsky_video_interpolation.unet": ("interpolation", "1.0", KANDINSKY_VIDEO_1_0.interpolation, 3870),
    "kv10_movq": ("movq", None, KANDINSKY_VIDEO_1_0.movq, 270.6),
    "kv11_t2v.unet": ("keyframe", "1.1", KANDINSKY_VIDEO_1_1.keyframe, 4150),
    "kv11_interpolation.unet": ("interpolation", "1.1", KANDINSKY_VIDEO_1_1.interpolation, 3980),
    "kv11_movq": ("movq", None, KANDINSKY_VIDEO_1_1.image_movq, 270.6),
    "kv11_video_movq": ("movq", "1.1", KANDINSKY_VIDEO_1_1.movq, 666.1),
}


def test_every_manifest_is_known() -> None:
    assert {path.stem.removeprefix("manifest_") for path in MANIFESTS} == set(EXPECTED), FOLDER


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_every_key_is_one_parameter(path: Path) -> None:
    manifest = {name: tuple(shape) for name, shape in json.loads(path.read_text()).items()}
    kind, version, preset, millions = EXPECTED[path.stem.removeprefix("manifest_")]
    identity = identify(manifest)
    assert (identity.kind, identity.version, identity.official) == (kind, version, True)
    assert sorted(identity.names.values()) == sorted(manifest)

    shapes = {ours: manifest[theirs] for ours, theirs in identity.names.items()}
    config = CONFIGS[kind](shapes, version)
    assert config == preset
    model = build(config, device="meta")
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == shapes
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(millions * 1e6, rel=3e-3)

    assert to_official(shapes, kind, version or "1.0") == manifest
