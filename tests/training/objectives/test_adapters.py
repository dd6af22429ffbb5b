"""LoRA: what the adapters compute, what their file holds, and that it is the trained change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fusionframes_core.checkpoints.lora import add_lora
from fusionframes_core.checkpoints.open_model import open_model
from fusionframes_core.models.temporal import temporal_parts
from fusionframes_core.models.unet.interpolation_unet import InterpolationUNet
from fusionframes_core.models.unet.unet import UNet
from tests.helpers.unet_cases import condition, group_condition, interpolation_config, randomise, video_config
from training.engine.run_settings import TrainSettings
from training.engine.sharding import checkpoint_activations
from training.objectives.adapters import LAYERS, AdapterSettings, LoraModel, adaptable, chosen_layers, layers_named
from training.train_lora import LoraStage

TARGETS = LAYERS["all"].targets


def unets() -> dict[str, tuple]:
    """A U-Net of each kind with a call of it."""
    keyframe = randomise(UNet(video_config("conv1d_attn1d_blocks")))
    groups = randomise(InterpolationUNet(interpolation_config()))
    return {
        "keyframe": (keyframe, (torch.randn(1, 4, 3, 8, 6), torch.tensor([5]), condition(1, 3))),
        "interpolation": (groups, (torch.randn(1, 12, 3, 8, 6), torch.tensor([5]), group_condition(1, 3))),
    }


@torch.no_grad()
@pytest.mark.parametrize("part", ["keyframe", "interpolation"])
def test_the_file_patches_weights_to_what_the_adapters_compute(part: str) -> None:
    """Fresh adapters change nothing but rounding; trained ones give what W + B·A gives; strength 0 is the base."""
    unet, call = unets()[part]
    state = {name: value.clone() for name, value in unet.state_dict().items()}
    base = unet(*call)
    model = LoraModel(unet, AdapterSettings(3), layers_named(unet, "all"))
    torch.testing.assert_close(model(*call), base, rtol=1e-4, atol=1e-5 * base.abs().max().item())
    for adapter in model.adapters:
        adapter.lora_B.normal_(0, 0.05)
    wanted = model(*call)
    assert (wanted - base).abs().max() > 1e-2 * base.abs().max()
    plain = type(unet)(video_config("conv1d_attn1d_blocks") if part == "keyframe" else interpolation_config())
    plain.load_state_dict(state)
    add_lora(plain, model.tensors(), 0.0)
    assert torch.equal(plain(*call), base)
    add_lora(plain, model.tensors(), 1.0)
    torch.testing.assert_close(plain(*call), wanted, rtol=1e-3, atol=1e-4 * wanted.abs().max().item())


def test_layers_are_chosen_by_whole_parts_of_their_names() -> None:
    unet, _ = unets()["keyframe"]
    names = list(chosen_layers(adaptable(unet), ["to_query", "attention.to_key"]))
    assert names
    assert all(name.endswith((".to_query", ".attention.to_key")) for name in names)
    with pytest.raises(ValueError, match="targets must be endings of the names of layers; got query"):
        chosen_layers(adaptable(unet), ["query", "to_query"])


@pytest.mark.parametrize("part", ["keyframe", "interpolation"])
def test_layers_by_name(part: str) -> None:
    """Attention is part of all; the temporal ones lie in temporal parts; an unknown name is refused."""
    unet, _ = unets()[part]
    every, attention, temporal = (set(layers_named(unet, name)) for name in ("all", "attention", "temporal"))
    assert attention < every
    parts = tuple(f"{name}." for name, _ in temporal_parts(unet))
    assert temporal
    assert all(name.startswith(parts) for name in temporal)
    assert set(layers_named(unet, "temporal", ["to_query"])) <= temporal
    with pytest.raises(ValueError, match="layers must be one of all, attention, temporal; got 'motion'"):
        layers_named(unet, "motion")


@torch.no_grad()
def test_alpha_scales_and_is_in_the_file() -> None:
    """alpha = 2 · rank counts twice; the file holds the scaled product, so that a strength of 1 is what was trained."""
    unet, call = unets()["keyframe"]
    base = unet(*call)
    model = LoraModel(unet, AdapterSettings(2, alpha=4.0), layers_named(unet, "attention"))
    for adapter in model.adapters:
        adapter.lora_B.normal_(0, 0.05)
    wanted = model(*call)
    again = LoraModel(randomise(UNet(video_config("conv1d_attn1d_blocks"))), AdapterSettings(2, 4.0), {})
    assert again.tensors() == {}
    plain = UNet(video_config("conv1d_attn1d_blocks"))
    plain.load_state_dict(unet.state_dict())
    add_lora(plain, model.tensors(), 1.0)
    torch.testing.assert_close(plain(*call), wanted, rtol=1e-3, atol=1e-4 * wanted.abs().max().item())
    assert (wanted - base).abs().max() > 1e-3 * base.abs().max()
    kept = {name: value.clone() for name, value in model.tensors().items()}
    for adapter in model.adapters:
        adapter.lora_B.zero_()
    model.load(kept)
    assert all(torch.equal(value, kept[name]) for name, value in model.tensors().items())
    with pytest.raises(ValueError, match="of another rank"):
        model.load({name: torch.zeros(1, 1) for name in kept})
    with pytest.raises(ValueError, match="is missing"):
        model.load({})


def test_dropout_is_the_same_when_a_block_is_computed_again() -> None:
    """Gradients with checkpointing equal those without; evaluation drops nothing."""
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(3)
        unet, call = unets()["keyframe"]
        model = LoraModel(unet, AdapterSettings(2, dropout=0.3), layers_named(unet, "attention"))
        for adapter in model.adapters:
            torch.nn.init.normal_(adapter.lora_B, 0, 0.05)
        if checkpointing:
            checkpoint_activations(model)
        torch.manual_seed(4)
        x = torch.randn(1, 4, 3, 8, 6, generator=torch.Generator().manual_seed(1))
        model.train()(x, *call[1:]).square().mean().backward()
        gradients.append([adapter.lora_A.grad for adapter in model.adapters])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(again, plain)
    with torch.no_grad():
        first, second = (model.eval()(x, *call[1:]) for _ in range(2))
    assert torch.equal(first, second)


def test_adapter_settings_have_ranges() -> None:
    for wrong, words in (
        ({"rank": 0}, "rank must be at least 1; got 0"),
        ({"rank": 1, "alpha": 0.0}, "alpha must be greater than 0"),
        ({"rank": 1, "dropout": 1.0}, "dropout must be at least 0 and less than 1"),
    ):
        with pytest.raises(ValueError, match=words):
            AdapterSettings(**wrong)


def test_a_lora_of_another_model_is_refused() -> None:
    unet, _ = unets()["keyframe"]
    with pytest.raises(ValueError, match="the LoRA is of another model: there is no layer nowhere"):
        add_lora(unet, {"diffusion_model.nowhere.lora_A.weight": torch.zeros(1, 1)}, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["keyframe", "interpolation"])
def test_training_writes_a_file_that_fits_the_bundled_model(tmp_path: Path, part: str) -> None:
    """Three steps on rings: every layer is known, B has moved, the base has not."""
    settings = TrainSettings(tmp_path, 3, 1, 1e-3, warmup_steps=1, decay_steps=1, trackers=[])
    LoraStage(settings, part=part, rank=2, shape="ring", count=2).run()
    tensors = load_file(tmp_path / "lora.safetensors")
    assert all(key.startswith("diffusion_model.") and ".lora_" in key for key in tensors)
    assert all(value.abs().max() > 0 for key, value in tensors.items() if key.endswith("lora_A.weight"))
    assert sum(bool(value.any()) for key, value in tensors.items() if key.endswith("lora_B.weight")) > 10
    unet = getattr(open_model("tiny").load(), part)
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    add_lora(unet, tensors, 1.0)
    changed = {name for name, value in unet.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.rsplit(".", 1)[0].rsplit(".", 1)[-1] in TARGETS for name in changed)


def test_bad_arguments(tmp_path: Path) -> None:
    settings = TrainSettings(tmp_path, 3, 1, 1e-3, trackers=[])
    with pytest.raises(ValueError, match="part must be one of keyframe, interpolation; got 'vae'"):
        LoraStage(settings, part="vae").run()
    with pytest.raises(ValueError, match="rank must be at least 1; got 0"):
        LoraStage(replace(settings), rank=0).run()
    with pytest.raises(ValueError, match="one of data, clips and shape must say what to learn"):
        LoraStage(settings).run()
    with pytest.raises(
        ValueError, match="shape must be one of circle, square, triangle, star, ring, hexagon; got 'cat'"
    ):
        LoraStage(settings, shape="cat").run()
