"""Shared inputs and the checks that ComfyUI itself does not make."""

from __future__ import annotations

import asyncio
import math
import sys
from types import ModuleType

import pytest

from fusionframes_core.presets import TINY
from tests.helpers.stand_in_comfyui import Folders


@pytest.mark.parametrize(("width", "height"), [(16, 16), (64, 48), (2048, 2048)])
def test_sizes_in_steps_are_accepted(nodes: ModuleType, width: int, height: int) -> None:
    assert nodes.keyframes.EmptyVideoLatent.validate_inputs(width, height) is True


@pytest.mark.parametrize(("width", "height"), [(0, 64), (64, 50), (2064, 64), (-16, 16)])
def test_other_sizes_are_named(nodes: ModuleType, width: int, height: int) -> None:
    sentence = nodes.keyframes.EmptyVideoLatent.validate_inputs(width, height)
    assert sentence == f"width and height must be multiples of 16 from 16 to 2048 pixels; got {width}×{height}"


def test_encode_video_may_keep_the_size(nodes: ModuleType) -> None:
    assert nodes.pixels.EncodeVideo.validate_inputs(0, 64) is True


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_cfg_must_be_a_number(nodes: ModuleType, value: float) -> None:
    with pytest.raises(ValueError, match="cfg must be a finite number of at least 1; got"):
        nodes.inputs.check_cfg(value)
    assert nodes.inputs.check_cfg(5.0) == 5.0


@pytest.mark.parametrize(("name", "score"), [("low", 1), ("extreme", 100), ("number", 7.5)])
def test_motion_is_a_name_or_a_number(nodes: ModuleType, name: str, score: float) -> None:
    assert nodes.inputs.score_of(name, 7.5) == score


def test_a_motion_score_out_of_range_is_named(nodes: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"a number from 0 to 1000"):
        nodes.inputs.score_of("number", 1001.0)


@pytest.mark.parametrize(
    ("size", "overlap", "sentence"),
    [
        (16, 4, True),
        (1, 0, True),
        (4, 4, "temporal_overlap must be less than temporal_size (4); got 4"),
        (0, 0, "temporal_size must be from 1 to 1024 frames and temporal_overlap from 0 to 64; got 0 and 0"),
        (100, 65, "temporal_size must be from 1 to 1024 frames and temporal_overlap from 0 to 64; got 100 and 65"),
    ],
)
def test_pieces_that_cannot_overlap_are_named(nodes: ModuleType, size: int, overlap: int, sentence: bool | str) -> None:
    assert nodes.pixels.Decode.validate_inputs(size, overlap) == sentence


def test_defaults_are_the_bundled_models(nodes: ModuleType) -> None:
    """A node that was just added makes what tiny is good at."""
    given = {item.id: item for item in nodes.keyframes.SampleKeyframes.define_schema().inputs}
    assert (given["width"].default, given["height"].default) == TINY.size
    assert given["num_frames"].default == TINY.num_frames
    assert given["steps"].default == TINY.keyframe_schedule.steps
    assert given["cfg"].default == 1 + TINY.guidance
    given = {item.id: item for item in nodes.interpolate.Interpolate.define_schema().inputs}
    assert given["steps"].default == TINY.interpolation_schedule.steps
    assert given["cfg"].default == 1 + TINY.interpolation_guidance


def test_old_ids_lead_to_nodes_with_the_same_inputs(
    nodes: ModuleType, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ComfyUI is told of them once it has a server, and the bundled LoRAs are offered."""
    replacement = sys.modules["comfy_api.latest"].ComfyAPI.node_replacement
    monkeypatch.setattr(replacement, "registered", [])
    asyncio.run(nodes.FusionFramesExtension().get_node_list())
    assert replacement.registered == []
    monkeypatch.setitem(sys.modules, "server", ModuleType("server"))
    assert asyncio.run(nodes.FusionFramesExtension().get_node_list()) == nodes.NODES
    assert {kind for kind, _ in folders.added} == {"loras"}
    known = {node.define_schema().node_id: node.define_schema() for node in nodes.NODES}
    assert len(replacement.registered) == len(nodes.renames.RENAMED)
    for old in replacement.registered:
        schema = known[old.new_node_id]
        assert old.old_node_id not in known
        assert not any(given.optional for given in schema.inputs)
        assert [pair["old_id"] for pair in old.input_mapping] == [given.id for given in schema.inputs]
