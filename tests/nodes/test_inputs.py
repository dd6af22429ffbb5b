"""Inputs that several nodes share."""

from __future__ import annotations

import asyncio
import sys
from inspect import signature
from types import ModuleType

import pytest

from tests.helpers.stand_in_comfyui import Folders


def test_encode_video_may_keep_the_size(nodes: ModuleType) -> None:
    assert nodes.pixels.EncodeVideo.validate_inputs(0, 64) is True


@pytest.mark.parametrize(("name", "score"), [("low", 1), ("extreme", 100), ("number", 7.5)])
def test_motion_is_a_name_or_a_number(nodes: ModuleType, name: str, score: float) -> None:
    assert nodes.inputs.score_of(name, 7.5) == score


def test_a_motion_score_out_of_range_is_named(nodes: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"a number from 0 to 1000"):
        nodes.inputs.score_of("number", 1001.0)


PIECES = (
    "temporal_size must be from 0 (as many as fit) to 1024 frames and temporal_overlap from -1 (a quarter of it) to 64"
)


@pytest.mark.parametrize(
    ("size", "overlap", "sentence"),
    [
        (16, 4, True),
        (1, 0, True),
        (4, 4, "temporal_overlap must be less than temporal_size (4); got 4"),
        (0, -1, True),
        (0, 8, True),
        (-1, 0, f"{PIECES}; got -1 and 0"),
        (100, 65, f"{PIECES}; got 100 and 65"),
    ],
)
def test_pieces_that_cannot_overlap_are_named(nodes: ModuleType, size: int, overlap: int, sentence: bool | str) -> None:
    assert nodes.pixels.Decode.validate_inputs(size, overlap) == sentence


LEFT_TO_THE_MODEL = {
    "SampleKeyframes": {"width": 0, "height": 0, "num_frames": 0, "steps": 0, "cfg": 0, "fps": 0},
    "DrawFirstFrame": {"width": 0, "height": 0, "steps": 0, "cfg": 0},
    "ImageToVideo": {"width": 0, "height": 0, "num_frames": 0, "steps": 0, "cfg": -1, "cfg_image": -1},
    "PrepareFirstFrame": {"width": 0, "height": 0, "num_frames": 0},
    "EmptyVideoLatent": {"width": 0, "height": 0, "num_frames": 0, "fps": 0},
    "PlanSampling": {"steps": 0, "cfg": 0},
    "Interpolate": {"steps": 0, "cfg": 0},
    "ExtendVideo": {"window": 0, "overlap": 0},
    "SchedulePrompts": {"num_frames": 0},
    "Decode": {"chunk": 0, "overlap": -1, "fps": 0, "windows": "blended"},
}


@pytest.mark.parametrize("name", LEFT_TO_THE_MODEL)
def test_what_a_model_says_itself_is_left_to_it(nodes: ModuleType, name: str) -> None:
    """A node that was just added makes what its model is good at, whichever that is."""
    schemas = {node.define_schema().node_id: node.define_schema() for node in nodes.NODES}
    given = {item.id: item for item in schemas[f"FusionFrames_{name}"].inputs}
    wanted = LEFT_TO_THE_MODEL[name]
    assert {key: given[key].default for key in wanted} == wanted
    for choice in ("sampler", "scheduler"):
        assert choice not in given or given[choice].default == "default"


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), -1.0])
@pytest.mark.parametrize(
    ("node", "name"),
    [
        *(("keyframes.EmptyVideoLatent", "fps"), ("keyframes.SampleKeyframes", "fps"), ("pixels.Decode", "fps")),
        *(("pixels.EncodeVideo", "fps"), ("pixels.EncodeVideo", "force_rate")),
    ],
)
def test_a_rate_that_is_no_number_is_named(nodes: ModuleType, node: str, name: str, rate: float) -> None:
    """NaN is neither below ComfyUI's smallest value nor above its largest."""
    room, found = node.split(".")
    others = dict.fromkeys(("width", "height", "num_frames", "batch_size", "chunk", "overlap"), 64)
    given = {**others, "every": 1, "fps": 8.0, "model": None, "text": None, "vae": None, "latents": None, "cfg": 1.0}
    execute = getattr(getattr(nodes, room), found).execute
    wanted = {**{key: given[key] for key in signature(execute).parameters if key in given}, name: rate}
    if found == "Decode":
        wanted["temporal"] = True
    with pytest.raises(ValueError, match=rf"^{name} must be 0 or a finite number above it; got {rate}$"):
        execute(**wanted)


def test_a_sentence_about_two_inputs_is_told_once(nodes: ModuleType) -> None:
    """ComfyUI puts what a check says behind each input that it looked at."""
    said = nodes.keyframes.EmptyVideoLatent.validate_inputs(8, 50)
    details = [f"{name} - {said}" for name in ("width", "height")]
    assert details[0].startswith("width - width and height must be 0 or multiples of 16")
    assert details[1] == "height - see the sentence before"


@pytest.mark.parametrize("letters", [244, 300])
def test_a_name_that_no_file_can_have_is_named(nodes: ModuleType, letters: int) -> None:
    """255 bytes with the suffix are what file systems take; both nodes say so instead of an OSError."""
    for node in (nodes.text.SaveConditioning, nodes.text.LoadConditioning):
        said = node.validate_inputs("x" * letters)
        assert said.startswith("name must be at most 255 bytes long with .safetensors, which is what file systems take")
        assert said.endswith(f"got {letters + 12}")
    assert nodes.text.SaveConditioning.validate_inputs("x" * 243) is True
    assert "name must be at most 255 bytes" in nodes.text.SaveConditioning.validate_inputs("視" * 100)


def test_example_inputs_are_there_once(nodes: ModuleType, folders: Folders) -> None:
    """Copied where Load Image and Load Video look; a file that is there stays as it is."""
    given = sorted((nodes.host.comfy.example_inputs.EXAMPLES).glob("fusionframes_*"))
    assert len(given) == 4
    assert all(file.stat().st_size < 200_000 for file in given)
    mine = folders.add_file(f"input/{given[0].name}", b"mine")
    nodes.host.offer_example_inputs()
    assert mine.read_bytes() == b"mine"
    assert sorted(file.name for file in mine.parent.iterdir()) == [file.name for file in given]
    assert all((mine.parent / file.name).read_bytes() == file.read_bytes() for file in given[1:])


def test_a_closed_input_folder_is_one_line_in_the_log(
    nodes: ModuleType, folders: Folders, caplog: pytest.LogCaptureFixture
) -> None:
    """The pack loads all the same; nothing half-written stays."""
    folders.add_file("input", b"no folder")
    nodes.host.offer_example_inputs()
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("FusionFrames: example inputs for its workflows cannot be copied to ")


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
        names = [given.id for given in schema.inputs if not given.optional]
        assert [pair["old_id"] for pair in old.input_mapping] == names
