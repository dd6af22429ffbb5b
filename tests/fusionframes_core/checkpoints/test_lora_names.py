"""LoRA files of other tools: the same adapters under every name that ComfyUI's loader knows are the same LoRA."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fusionframes_core.checkpoints.inspect import inspect_file
from fusionframes_core.checkpoints.lora import matrices, misfit, open_lora, under_our_names
from fusionframes_core.checkpoints.lora_names import adapter_names
from fusionframes_core.checkpoints.open_model import open_model
from fusionframes_core.errors import CheckpointError
from fusionframes_core.presets import PRESETS

RING = Path(__file__).parents[3] / "loras" / "fusionframes_tiny_ring.safetensors"
TINY = PRESETS["tiny"]
NAMES: dict[str, Callable[[str, str], str]] = {
    "ours": lambda layer, part: f"diffusion_model.{layer}.lora_{'A' if part == 'down' else 'B'}.weight",
    "bare": lambda layer, part: f"{layer}.lora_{'A' if part == 'down' else 'B'}.weight",
    "checkpoint": lambda layer, part: f"model.diffusion_model.{layer}.lora_{part}.weight",
    "kohya": lambda layer, part: f"lora_unet_{layer.replace('.', '_')}.lora_{part}.weight",
    "diffusers": lambda layer, part: f"unet.{layer}.lora.{part}.weight",
    "diffusers of old": lambda layer, part: f"unet.{layer}_lora.{part}.weight",
    "linear layers": lambda layer, part: f"unet.{layer}.lora_linear_layer.{part}.weight",
    "peft": lambda layer, part: f"base_model.model.{layer}.lora_{'A' if part == 'down' else 'B'}.weight",
    "peft saved": lambda layer, part: f"base_model.model.{layer}.lora_{'A' if part == 'down' else 'B'}.default.weight",
    "peft of a unet": lambda layer, part: f"base_model.model.unet.{layer}.lora_{'A' if part == 'down' else 'B'}",
}


@pytest.fixture(scope="module")
def adapters() -> dict[tuple[str, str], Tensor]:
    """(layer, "down" or "up") → the bundled LoRA's tensor."""
    found = {}
    for name, tensor in load_file(RING).items():
        layer, end = name.removeprefix("diffusion_model.").split(".lora_")
        found[layer, "down" if end[0] == "A" else "up"] = tensor
    return found


@pytest.mark.parametrize("style", NAMES)
@pytest.mark.parametrize("alpha", [None, 2.0])
def test_every_style_is_read(adapters: dict, tmp_path: Path, style: str, alpha: float | None) -> None:
    """An alpha scales by alpha / rank."""
    path, rank = tmp_path / "lora.safetensors", 8
    tensors = {NAMES[style](layer, part): tensor for (layer, part), tensor in adapters.items()}
    if alpha is not None:
        stems = {re.sub(r"[._]lora[._](?!unet).*$", "", name) for name in tensors}
        assert len(stems) == len(adapters) / 2
        tensors |= {f"{stem}.alpha": torch.tensor(alpha) for stem in stems}
    save_file(tensors, path)
    lora = open_lora(path, TINY)
    assert lora.part == "keyframe"
    assert set(lora.names) == set(tensors)
    assert inspect_file(path).kind == "LoRA"
    found = under_our_names(matrices(TINY, "keyframe"), lora.file.tensors(lora.names))
    for (layer, part), tensor in adapters.items():
        scale = 1.0 if alpha is None or part == "down" else alpha / rank
        assert torch.equal(found[NAMES["ours"](layer, part)], tensor.float() * scale)


def test_an_alpha_scales_what_is_added(adapters: dict, tmp_path: Path) -> None:
    """alpha = rank / 2 at strength 1 is strength 0.5 without; whole numbers and one-element lists will do."""
    tensors = {NAMES["ours"](layer, part): tensor for (layer, part), tensor in adapters.items()}
    alphas = {f"diffusion_model.{layer}.alpha": torch.tensor([4]) for layer, _ in adapters}
    save_file({**tensors, **alphas}, tmp_path / "alpha.safetensors")
    loaded = [
        open_model("tiny", loras=loras).components["keyframe"].load().state_dict()
        for loras in ({tmp_path / "alpha.safetensors": 1.0}, {RING: 0.5}, {})
    ]
    assert any(not torch.equal(value, loaded[2][name]) for name, value in loaded[0].items())
    for name, value in loaded[0].items():
        torch.testing.assert_close(value, loaded[1][name])


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.bool, torch.complex64])
def test_adapters_that_are_no_floating_point_numbers_are_refused(
    adapters: dict, tmp_path: Path, dtype: torch.dtype
) -> None:
    tensors = {NAMES["ours"](*place): tensor.to(dtype) for place, tensor in adapters.items()}
    torch.save(tensors, tmp_path / "lora.pt")
    kind = str(dtype).removeprefix("torch.")
    with pytest.raises(CheckpointError, match=rf"floating-point numbers, and diffusion_model\..* is {kind}"):
        open_lora(tmp_path / "lora.pt", TINY)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float64])
def test_adapters_of_every_floating_type_are_read(adapters: dict, tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {NAMES["ours"](*place): tensor.to(dtype) for place, tensor in adapters.items()}
    save_file(tensors, tmp_path / "lora.safetensors")
    unet = open_model("tiny", loras={tmp_path / "lora.safetensors": 1.0}).components["keyframe"].load()
    base = open_model("tiny").components["keyframe"].load().state_dict()
    layer = next(iter(adapters))[0]
    down, up = (tensors[NAMES["ours"](layer, part)].float() for part in ("down", "up"))
    wanted = base[f"{layer}.weight"] + (up.flatten(1) @ down.flatten(1)).reshape(base[f"{layer}.weight"].shape)
    torch.testing.assert_close(unet.get_submodule(layer).weight, wanted)


def test_names_that_are_none_are_answered_with_those_that_are(tmp_path: Path) -> None:
    save_file({"transformer.x.lora_A.weight": torch.zeros(2, 2)}, tmp_path / "lora.safetensors")
    message = r"its keyframe U-Net: there is no layer transformer\.x; .*begin with diffusion_model\., .*lora_unet_ "
    with pytest.raises(CheckpointError, match=message + r".*\.lora_A\.weight and \.lora_B\.weight, .*or \.alpha"):
        open_lora(tmp_path / "lora.safetensors", TINY)


def test_one_part_twice_a_lonely_part_and_an_alpha_of_many_numbers_are_refused() -> None:
    known = {"a.b": (4, 4), "a_b": (4, 4)}
    both = {"a.b.lora_A.weight": torch.ones(1, 4), "a.b.lora_B.weight": torch.ones(4, 1)}
    assert misfit(known, both) == ""
    assert "are the same part" in misfit(known, {**both, "unet.a.b.lora_down.weight": torch.ones(1, 4)})
    assert "a.b has a.b.alpha alone: its down is missing" in misfit(known, {"a.b.alpha": torch.ones(())})
    assert "must be one number" in misfit(known, {**both, "a.b.alpha": torch.ones(2)})
    assert "there is no layer lora_unet_a_b" in misfit(known, {"lora_unet_a_b.lora_down.weight": torch.ones(1, 4)})
    empty = {"a.b.lora_A.weight": torch.ones(0, 4), "a.b.lora_B.weight": torch.ones(4, 0)}
    assert misfit(known, empty)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("part", ["keyframe", "interpolation"])
def test_underscores_tell_every_layer(name: str, part: str) -> None:
    """kohya's names are one layer's alone in every model there is."""
    layers = matrices(PRESETS[name], part)
    names = [NAMES["kohya"](layer, part) for layer in layers for part in ("down", "up")]
    assert adapter_names(layers, names).keys() == layers.keys()
