"""Weights in 8 bits, text encoders in parts, and models that leave when their stage is over."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fusionframes_core.checkpoints.model_folder import save_model_folder
from fusionframes_core.checkpoints.offload import OFFLOADS, OffloadedModels, _moved
from fusionframes_core.checkpoints.open_model import open_model
from fusionframes_core.checkpoints.state_dict import save_weights
from fusionframes_core.config import ModelConfig
from fusionframes_core.models.casting import FP8, CastingOperations, compute_dtype, stored_type
from fusionframes_core.models.layers import TorchOperations
from fusionframes_core.pipeline import FusionFramesPipeline

PROMPT = "a large red circle moving left"


def test_only_matrices_are_stored_in_8_bits(micro_folder: Path, micro_config: ModelConfig) -> None:
    unet = open_model(micro_folder).components["interpolation"].load(FP8)
    types = {name: parameter.dtype for name, parameter in unet.named_parameters()}
    assert set(types.values()) == {FP8, torch.bfloat16}
    assert types["in_layer.weight"] == FP8
    assert types["in_layer.bias"] == types["group_embedding.skip_frames.weight"] == torch.bfloat16
    assert compute_dtype(unet) == torch.bfloat16
    eight = sum(p.nbytes for p in unet.parameters())
    assert eight < 0.62 * sum(2 * p.numel() for p in unet.parameters())


@pytest.mark.parametrize("name", ["keyframe", "interpolation"])
def test_8_bits_are_the_rounded_weights_and_nothing_else(
    micro_folder: Path, micro_config: ModelConfig, name: str
) -> None:
    """The same network in bf16, its matrices rounded to 8 bits, gives the same bits."""
    stored = open_model(micro_folder).components[name].load(FP8)
    plain = open_model(micro_folder).components[name].load(torch.bfloat16)
    with torch.no_grad():
        for key, parameter in plain.named_parameters():
            parameter.copy_(stored.get_parameter(key).to(torch.bfloat16))
    pipes = []
    for unet in (stored, plain):
        parts = open_model(micro_folder).load(torch.bfloat16)
        pipes.append(FusionFramesPipeline(type(parts)(**{**vars(parts), name: unet})))
    ours, theirs = (pipe(PROMPT, passes=1, steps=2) for pipe in pipes)
    assert torch.equal(ours.latents, theirs.latents)


def test_a_file_in_8_bits_loads(micro_folder: Path, micro_config: ModelConfig, tmp_path: Path) -> None:
    parts = open_model(micro_folder).load()
    shutil.copytree(micro_folder, tmp_path, dirs_exist_ok=True)
    save_weights(parts.keyframe.state_dict(), tmp_path / "keyframe.safetensors", FP8)
    whole = (micro_folder / "keyframe.safetensors").stat().st_size
    assert (tmp_path / "keyframe.safetensors").stat().st_size < 0.5 * whole
    again = open_model(tmp_path).components["keyframe"].load(FP8)
    for key, parameter in parts.keyframe.named_parameters():
        rounded = parameter.to(stored_type(key, parameter.ndim, FP8))
        assert torch.equal(again.get_parameter(key).float(), rounded.float()), key


def test_every_casting_layer_computes_as_torchs_own() -> None:
    shapes = {
        "Linear": ((6, 4), (2, 6)),
        "Conv2d": ((6, 4, 3), (2, 6, 5, 5)),
        "Conv3d": ((6, 4, (3, 1, 1)), (2, 6, 4, 5, 5)),
        "ConvTranspose2d": ((6, 4, 2, 2), (2, 6, 5, 5)),
    }
    for name, (arguments, shape) in shapes.items():
        plain, cast = (getattr(namespace, name)(*arguments) for namespace in (TorchOperations, CastingOperations))
        cast.load_state_dict(plain.state_dict())
        x = torch.randn(shape)
        assert torch.equal(cast(x), plain(x)), name
        assert cast.to(torch.bfloat16)(x).dtype == torch.float32


@pytest.mark.parametrize("offload", OFFLOADS)
def test_offloading_changes_no_pixel(micro_folder: Path, offload: str) -> None:
    expected = FusionFramesPipeline.from_pretrained(micro_folder)(PROMPT, passes=1, steps=2)
    pipe = FusionFramesPipeline.from_pretrained(micro_folder, offload=offload)
    result = pipe(PROMPT, passes=1, steps=2)
    if (
        offload == "layers"
    ):  # weights lie elsewhere than in the mapped file, and some processors' products go by alignment
        torch.testing.assert_close(result.frames, expected.frames, rtol=0, atol=1e-5)
    else:
        assert torch.equal(result.frames, expected.frames)
    assert len(pipe.models) == (0 if offload == "disk" else 4)


def test_from_the_disk_no_two_models_are_in_memory_at_once(micro_folder: Path) -> None:
    pipe = FusionFramesPipeline.from_pretrained(micro_folder, offload="disk")
    seen: list[int] = []
    pipe(PROMPT, passes=1, steps=2, callback=lambda *_: seen.append(len(pipe.models)))
    assert set(seen) == {1}


@pytest.mark.parametrize("offload", ["cpu", "disk", "layers"])
def test_what_went_wrong_in_loading_is_what_is_said(offload: str, micro_config: ModelConfig) -> None:
    def load() -> torch.nn.Module:
        raise torch.OutOfMemoryError("no room for the keyframe U-Net")

    models = OffloadedModels(micro_config, {"keyframe": load}, "cpu", offload)
    with pytest.raises(torch.OutOfMemoryError, match="no room for the keyframe U-Net"), models.stage("keyframe"):
        pass


def test_weights_in_8_bits_leave_the_device_with_their_model() -> None:
    """bitsandbytes keeps them in a layer's `state` from its first call on, where `to` does not look."""
    layer = torch.nn.Linear(4, 3, bias=False)
    layer.requires_grad_(False)
    weight = layer.weight
    layer.state = SimpleNamespace(CB=weight.data, SCB=torch.ones(3))  # type: ignore[assignment]
    _moved(torch.nn.Sequential(layer), torch.device("meta"))
    state: Any = layer.state
    assert state.CB.is_meta
    assert state.SCB.is_meta
    assert layer.weight.is_meta


def test_a_bad_name_is_refused(micro_folder: Path) -> None:
    with pytest.raises(ValueError, match="offload must be one of none, cpu, disk, layers; got 'gpu'"):
        FusionFramesPipeline.from_pretrained(micro_folder, offload="gpu")
    with pytest.raises(ValueError, match="text_mode must be one of full, 8bit, 4bit, layers; got '2bit'"):
        FusionFramesPipeline.from_pretrained(micro_folder, text_mode="2bit")


def test_a_text_encoder_read_layer_by_layer_gives_the_same_context(micro_folder: Path) -> None:
    whole = open_model(micro_folder).load().text_encoder
    parts = open_model(micro_folder, text_mode="layers").components["text_encoder"].load()
    for _ in range(2):
        assert torch.equal(parts.encode([PROMPT, ""]).context, whole.encode([PROMPT, ""]).context)
        assert all(parameter.is_meta for parameter in parts.t5.block.parameters())


@pytest.mark.parametrize("mode", ["full", "layers"])
def test_sixteen_bits_of_text_are_computed_in_float32(mode: str, micro_folder: Path, tmp_path: Path) -> None:
    """The context is that of the rounded weights in float32, and what is kept of them stays in 16 bits."""
    parts = open_model(micro_folder).load()
    half = parts.text_encoder.to(torch.bfloat16)
    save_model_folder(parts, tmp_path, dtype=None)
    stored = open_model(tmp_path, text_mode=mode).components["text_encoder"].load(torch.bfloat16)
    kept = {name: weight.data_ptr() for name, weight in stored.t5.named_parameters() if not weight.is_meta}
    found = stored.encode([PROMPT, ""])
    assert found.context.dtype == torch.float32
    assert all(weight.dtype == torch.bfloat16 for weight in stored.parameters() if not weight.is_meta)
    assert {name: weight.data_ptr() for name, weight in stored.t5.named_parameters() if not weight.is_meta} == kept
    rounded = half.encode([PROMPT, ""])  # products in bf16
    wanted = half.float().encode([PROMPT, ""])
    torch.testing.assert_close(found.context, wanted.context, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(rounded.context, wanted.context, atol=1e-5, rtol=1e-5)


def test_fewer_bits_without_bitsandbytes_are_refused_in_a_sentence(
    micro_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="text_mode 4bit needs the package bitsandbytes, which is not installed"):
        open_model(micro_folder, text_mode="4bit")


@pytest.mark.parametrize(("mode", "tolerance", "share"), [("8bit", 0.05, 0.35), ("4bit", 0.5, 0.25)])
def test_fewer_bits_keep_the_context(mode: str, tolerance: float, share: float) -> None:
    """The bundled model's text encoder: a mean error well below the context itself, in a quarter or an eighth."""
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    whole = open_model("tiny").components["text_encoder"].load()
    fewer = open_model("tiny", text_mode=mode).components["text_encoder"].load()
    expected, found = (encoder.encode([PROMPT]).context for encoder in (whole, fewer))
    assert (found - expected).abs().mean() < tolerance * expected.abs().mean()
    full, stored = (sum(p.nbytes for p in encoder.t5.block.parameters()) for encoder in (whole, fewer))
    assert stored < share * full


def test_a_network_that_moves_to_a_gpu_is_turned_for_it(micro_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever device it was loaded for; `.to` is a stand-in, since there may be no GPU."""
    pipeline = FusionFramesPipeline.from_pretrained(micro_folder)
    kernels = [p for p in pipeline.keyframe.parameters() if p.ndim == 4 and p.shape[-1] > 1 and p.shape[1] > 1]
    assert not all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    monkeypatch.setattr(torch.nn.Module, "to", lambda model, device: model)
    pipeline.to("cuda")
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
