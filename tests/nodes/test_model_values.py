"""0 in a node's input: the loaded model's own value, shown on the node; what a model can hardly do is warned of."""

from __future__ import annotations

import logging
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from fusionframes_core.presets import KANDINSKY_VIDEO_1_0, KANDINSKY_VIDEO_1_1, TINY
from tests.helpers.stand_in_comfyui import PACK

INPUTS = {"seed": 3, "steps": 0, "cfg": 0.0, "sampler": "default", "scheduler": "default"}


def room(name: str) -> Any:
    """A module of nodes/host/."""
    return sys.modules[f"{PACK}.nodes.host.{name}"]


@pytest.fixture
def values(nodes: ModuleType) -> Any:
    return room("sampling.model_values")


@pytest.fixture
def options(nodes: ModuleType) -> Any:
    return room("sampling.sampling_options")


@pytest.fixture
def shown(nodes: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Everything that is written on a node from now on."""
    words: list[str] = []
    monkeypatch.setattr(room("sampling.shown_values"), "show", words.append)
    monkeypatch.setattr(room("comfy.memory"), "show", words.append)
    return words


def patcher(config: Any, kind: str = "Keyframe", **options: Any) -> SimpleNamespace:
    """A ModelPatcher around a model without its network."""
    inner = (cls := getattr(room("model.hosted_models"), f"{kind}Model")).__new__(cls)
    inner.config = config
    inner.schedule = config.keyframe_schedule if kind == "Keyframe" else config.interpolation_schedule
    return SimpleNamespace(model=inner, model_options=options)


@pytest.mark.parametrize(
    ("config", "kind", "steps", "cfg"),
    [
        (TINY, "Keyframe", 20, 2.5),
        (TINY, "Interpolation", 1, 1.0),
        (KANDINSKY_VIDEO_1_0, "Keyframe", 50, 6.0),
        (KANDINSKY_VIDEO_1_0, "Interpolation", 50, 1.25),
        (KANDINSKY_VIDEO_1_1, "Keyframe", 50, 6.0),
        (KANDINSKY_VIDEO_1_1, "Interpolation", 10, 1.5),
    ],
)
def test_steps_and_cfg_of_each_stage(options: Any, config: Any, kind: str, steps: int, cfg: float) -> None:
    """Every official default, and what is asked for in its place."""
    model = patcher(config, kind)
    own = options.sampling_options(model, **INPUTS)
    assert (own.steps, own.guidance, own.sampler, own.scheduler) == (steps, cfg - 1, None, None)
    asked = options.sampling_options(model, **{**INPUTS, "steps": 7, "cfg": 3.0, "sampler": "euler"})
    assert (asked.steps, asked.guidance, asked.sampler, asked.seed) == (7, 2.0, "euler", 3)


def test_weights_of_image_to_video(options: Any) -> None:
    """−1 is the model's own; 0 stays the weight 0 that it always was."""
    model = patcher(KANDINSKY_VIDEO_1_1)
    own = options.image_sampling_options(model, {**INPUTS, "cfg": -1.0, "cfg_image": -1.0})
    assert (own.steps, own.guidance, own.image_guidance) == (50, 5.0, 2.0)
    none = options.image_sampling_options(model, {**INPUTS, "cfg": 0.0, "cfg_image": 0.0})
    assert (none.guidance, none.image_guidance) == (0.0, 0.0)
    assert none.guidance_words == "cfg 0, cfg_image 0"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (TINY, "64×64 pixels, 16 keyframes"),
        (KANDINSKY_VIDEO_1_0, "512×512 pixels, 15 keyframes"),
        (KANDINSKY_VIDEO_1_1, "512×512 pixels, 12 keyframes"),
    ],
)
def test_size_and_number_of_keyframes(values: Any, config: Any, words: str) -> None:
    assert str(values.video_shape(patcher(config), 0, 0, 0)) == words
    assert values.video_shape(patcher(config), 128, 0, 3) == values.VideoShape(128, config.size[1], 3)


def test_a_value_left_to_no_model_is_named(values: Any) -> None:
    values.require_model_for_own(None, width=64, num_keyframes=3)
    values.require_model_for_own(patcher(TINY), width=0, num_keyframes=0)
    with pytest.raises(ValueError, match="width and num_keyframes must be above 0 where no model is connected; got 0"):
        values.require_model_for_own(None, width=0, height=64, num_keyframes=0)


def test_a_node_shows_what_it_works_with(values: Any, options: Any, shown: list[str], caplog: Any) -> None:
    model = patcher(KANDINSKY_VIDEO_1_0)
    show = room("sampling.shown_values").show_sampling
    show(model, options.sampling_options(model, **INPUTS), values.video_shape(model, 0, 0, 0))
    assert shown == ["512×512 pixels, 15 keyframes, 50 steps, cfg 6, ddpm"]
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("kind", "steps", "sentence"),
    [
        (
            "Interpolation",
            1,
            "1 step, cfg 1.25, ddpm. steps 1 is far from the 50 that kandinsky-video-1.0 was made for",
        ),
        ("Interpolation", 10, None),
        ("Keyframe", 6, "6 steps, cfg 6, ddpm. steps 6 is far from the 50 that kandinsky-video-1.0 was made for"),
    ],
)
def test_few_steps_are_warned_of(
    options: Any, shown: list[str], caplog: Any, kind: str, steps: int, sentence: str | None
) -> None:
    """In the log and on the node; a tenth of a second saved is no reason to tell a network the wrong time."""
    model = patcher(KANDINSKY_VIDEO_1_0, kind)
    with caplog.at_level(logging.WARNING):
        room("sampling.shown_values").show_sampling(
            model, options.sampling_options(model, **{**INPUTS, "steps": steps})
        )
    assert (shown[-1] if sentence else None) == sentence
    assert [record.getMessage() for record in caplog.records] == ([f"FusionFrames: {sentence}"] if sentence else [])


def test_sizes_and_lengths_far_from_the_trained_are_warned_of(values: Any, shown: list[str], caplog: Any) -> None:
    show, model = room("sampling.shown_values").show_values, patcher(KANDINSKY_VIDEO_1_0)
    for shape, clause in (
        (values.VideoShape(64, 64, 15), "64×64 pixels is far from the 512×512 of kandinsky-video-1.0"),
        (values.VideoShape(512, 1088, 15), "1088×512 pixels is far from the 512×512 of kandinsky-video-1.0"),
        (values.VideoShape(512, 512, 31), "31 keyframes are far more than the 15 of kandinsky-video-1.0"),
        (values.VideoShape(384, 640, 30), None),
    ):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            show(model, str(shape), shape)
        assert (clause in caplog.text) if clause else caplog.text == ""


def test_long_videos_in_windows_are_not_warned_of(values: Any, shown: list[str], caplog: Any) -> None:
    """That is what Long Video is for."""
    shape = values.VideoShape(64, 64, 125)
    room("sampling.shown_values").show_values(patcher(TINY, context_handler=object()), str(shape), shape)
    assert caplog.text == ""
