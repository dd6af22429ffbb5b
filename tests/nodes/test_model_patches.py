"""Patches on a MODEL: what it has already stays."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.stand_in_comfyui import PACK


class Model:
    """As much of ComfyUI's ModelPatcher as holds options."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.model_options = options

    def clone(self) -> Model:
        return Model(dict(self.model_options))

    def set_model_unet_function_wrapper(self, wrapper: Any) -> None:
        self.model_options["model_function_wrapper"] = wrapper


@pytest.fixture
def patches(nodes: ModuleType) -> Any:
    """nodes/host/sampling/patches.py."""
    return sys.modules[f"{PACK}.nodes.host.sampling.patches"]


def call(model: Any, video: Tensor) -> Tensor:
    """The last of three steps, in which the ring is turned, of a network that adds frame numbers."""
    sigmas = torch.tensor([3.0, 2.0, 1.0, 0.0])
    arguments = {"input": video, "timestep": sigmas[2:3], "c": {"transformer_options": {"sample_sigmas": sigmas}}}
    places = torch.arange(float(video.shape[2])).reshape(1, 1, -1, 1, 1)
    return model.model_options["model_function_wrapper"](lambda x, t, **conditions: x + places, arguments)


def test_loop_calls_the_wrapper_that_a_model_has(patches: Any) -> None:
    """It sees the video turned, as the network does, and is asked once, also under a second Loop."""
    seen: list[Tensor] = []

    def other(apply_model: Any, arguments: dict[str, Any]) -> Tensor:
        seen.append(arguments["input"])
        return 2 * apply_model(arguments["input"], arguments["timestep"], **arguments["c"])

    video = torch.rand(1, 4, 8, 2, 2)
    plain = call(patches.with_loop(Model({})), video)
    looped = patches.with_loop(Model({"model_function_wrapper": other}))
    assert torch.equal(call(looped, video), 2 * plain)
    assert not torch.equal(seen[0], video)
    assert torch.equal(seen[0].sort(dim=2).values, video.sort(dim=2).values)
    assert torch.equal(call(patches.with_loop(looped), video), 2 * plain)
    assert len(seen) == 2


def test_blocks_that_a_model_has_are_not_loaded_again(nodes: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = sys.modules[f"{PACK}.nodes.host.model.temporal_choice"]
    monkeypatch.setattr(choice, "load_unet", lambda *given: pytest.fail("a second U-Net was loaded"))
    model = SimpleNamespace(cached_patcher_init=(None, ("part", "auto", "conv1d_attn3d_blocks")))
    assert choice.with_blocks(model, "conv1d_attn3d_blocks") is model
    assert choice.with_blocks(model, "auto") is model
