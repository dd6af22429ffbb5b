"""What is wrong with a MODEL, a VAE or latents, in one sentence, before any work."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from fusionframes_core.presets import KANDINSKY_VIDEO_1_0, KANDINSKY_VIDEO_1_1, TINY
from tests.helpers.stand_in_comfyui import PACK


@pytest.fixture
def checks(nodes: ModuleType) -> Any:
    """nodes/host/sampling/checks.py."""
    return sys.modules[f"{PACK}.nodes.host.sampling.checks"]


def patcher(kind: type, config: Any = TINY) -> SimpleNamespace:
    """A ModelPatcher around a model of a class, without its network."""
    inner = kind.__new__(kind)
    inner.config = config
    return SimpleNamespace(model=inner)


@pytest.fixture
def keyframes(checks: Any) -> SimpleNamespace:
    return patcher(checks.KeyframeModel)


@pytest.fixture
def interpolation(checks: Any) -> SimpleNamespace:
    return patcher(checks.InterpolationModel)


def test_models_of_the_right_kind_pass(checks: Any, keyframes: SimpleNamespace, interpolation: SimpleNamespace) -> None:
    checks.require_keyframe_model(keyframes)
    checks.require_text_model(keyframes)
    checks.require_image_model(patcher(checks.KeyframeModel, KANDINSKY_VIDEO_1_1))
    checks.require_interpolation_model(interpolation)
    checks.require_our_model(keyframes)
    checks.require_our_model(interpolation)


def test_models_of_another_kind_are_named(
    checks: Any, keyframes: SimpleNamespace, interpolation: SimpleNamespace
) -> None:
    foreign = patcher(type("WAN21", (), {}))
    for check, model, got in (
        (checks.require_keyframe_model, interpolation, "got a FusionFrames interpolation model"),
        (checks.require_interpolation_model, keyframes, "got a FusionFrames keyframe model"),
        (checks.require_our_model, foreign, r"got a model of another kind \(WAN21\)"),
        (checks.require_image_model, keyframes, "tiny does not: use FusionFrames Sample Keyframes"),
    ):
        with pytest.raises(ValueError, match=got):
            check(model)
    with pytest.raises(ValueError, match=r"kandinsky-video-1\.1 continues a first frame: use FusionFrames Image to"):
        checks.require_text_model(patcher(checks.KeyframeModel, KANDINSKY_VIDEO_1_1))


def test_another_vae_is_named(checks: Any) -> None:
    own = checks.VideoAutoencoder.__new__(checks.VideoAutoencoder)
    checks.require_our_vae(SimpleNamespace(first_stage_model=own))
    with pytest.raises(ValueError, match=r"or Load VAE; got another VAE \(int\)"):
        checks.require_our_vae(SimpleNamespace(first_stage_model=3))


def test_latents_of_another_shape_are_named(checks: Any) -> None:
    checks.require_latents(torch.zeros(1, 4, 2, 8, 8), frames=2)
    for shape, sentence in (
        ((1, 4, 8, 8), r"got \[1, 4, 8, 8\]\. Frames made by other models go through FusionFrames Encode Video"),
        ((1, 16, 2, 8, 8), r"got \[1, 16, 2, 8, 8\]"),
        ((1, 4, 1, 8, 8), "at least 2 frames to interpolate between; got 1. Raise num_keyframes"),
    ):
        with pytest.raises(ValueError, match=sentence):
            checks.require_latents(torch.zeros(shape), frames=2)


def test_a_size_that_the_model_cannot_halve_is_named(checks: Any, keyframes: SimpleNamespace) -> None:
    checks.require_size(keyframes, torch.zeros(1, 4, 2, 8, 6))
    with pytest.raises(ValueError, match="multiples of 16 pixels for tiny; these latents stand for 56×64"):
        checks.require_size(keyframes, torch.zeros(1, 4, 2, 8, 7))
    official = patcher(checks.KeyframeModel, KANDINSKY_VIDEO_1_0)
    with pytest.raises(ValueError, match=r"multiples of 64 pixels for kandinsky-video-1\.0"):
        checks.require_size(official, torch.zeros(1, 4, 2, 8, 4))


def test_a_schedule_of_another_length_is_named(checks: Any) -> None:
    scheduled = [[None, {"mask": torch.ones(1, 8, 1, 1)}], [None, {}]]
    checks.require_schedule(scheduled, torch.zeros(1, 4, 8, 8, 8))
    with pytest.raises(ValueError, match="num_keyframes must be the Prompt Schedule's, which is 8; got 5"):
        checks.require_schedule(scheduled, torch.zeros(1, 4, 5, 8, 8))
