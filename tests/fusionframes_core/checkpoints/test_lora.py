"""LoRA files without ComfyUI: what is added, what is left alone, what is refused before a model is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fusionframes_core.checkpoints.inspect import inspect_file
from fusionframes_core.checkpoints.lora import add_lora, misfit, open_lora, shapes_in
from fusionframes_core.checkpoints.open_model import load_config, open_model
from fusionframes_core.errors import CheckpointError
from fusionframes_core.pipeline import FusionFramesPipeline
from training.data.encoder_identity import component_identity

RING = Path(__file__).parents[3] / "loras" / "fusionframes_tiny_ring.safetensors"


def write_lora(folder: Path, path: Path, part: str, rank: int = 2) -> dict[str, torch.Tensor]:
    """Adapters for three layers of a model folder's U-Net, one of them a convolution."""
    unet = getattr(open_model(folder).load(), part)
    layers = {n: m.weight for n, m in unet.named_modules() if getattr(m, "weight", None) is not None}
    matrices = [name for name, weight in layers.items() if weight.ndim == 2][:2]
    chosen = [*matrices, next(name for name, weight in layers.items() if weight.ndim == 4)]
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name in chosen:
        shape = layers[name].shape
        ones = [1] * (len(shape) - 2)
        tensors[f"diffusion_model.{name}.lora_A.weight"] = torch.randn(rank, *shape[1:], generator=generator)
        tensors[f"diffusion_model.{name}.lora_B.weight"] = torch.randn(shape[0], rank, *ones, generator=generator)
    save_file(tensors, path, metadata={"fusionframes": f"lora {part}", "model": "micro", "rank": str(rank)})
    return tensors


@pytest.mark.parametrize("part", ["keyframe", "interpolation"])
def test_the_named_layers_change_and_no_others(micro_folder: Path, tmp_path: Path, part: str) -> None:
    """W + strength · B·A; adding it the other way round gives W back."""
    path = tmp_path / "lora.safetensors"
    tensors = write_lora(micro_folder, path, part)
    base = getattr(open_model(micro_folder).load(), part).state_dict()
    unet = open_model(micro_folder, loras={path: 0.5}).components[part].load()
    names = {name.removeprefix("diffusion_model.").split(".lora_")[0] for name in tensors}
    for name, value in unet.state_dict().items():
        if name.removesuffix(".weight") not in names:
            assert torch.equal(value, base[name]), name
            continue
        down, up = (tensors[f"diffusion_model.{name.removesuffix('.weight')}.lora_{end}.weight"] for end in "AB")
        change = torch.einsum("or,r...->o...", up.flatten(1), down)
        torch.testing.assert_close(value, base[name] + 0.5 * change)
    add_lora(unet, tensors, -0.5)
    for name, value in unet.state_dict().items():
        torch.testing.assert_close(value, base[name], rtol=1e-4, atol=1e-5)


def test_a_video_with_strength_zero_is_the_bases(micro_folder: Path, tmp_path: Path) -> None:
    """Bit for bit; with strength 1 another one; both files at once add up; the model's files stay as they were."""
    files = {part: tmp_path / f"{part}.safetensors" for part in ("keyframe", "interpolation")}
    for part, path in files.items():
        write_lora(micro_folder, path, part)
    before = {path.name: path.read_bytes() for path in micro_folder.iterdir()}

    def video(loras: dict) -> torch.Tensor:
        pipeline = FusionFramesPipeline.from_pretrained(micro_folder, loras=loras)
        return pipeline("a red circle", seed=1, steps=2, interpolation_steps=2).latents

    base = video({})
    assert torch.equal(video(dict.fromkeys(files.values(), 0.0)), base)
    changed = [video({path: 0.1}) for path in files.values()] + [video(dict.fromkeys(files.values(), 0.1))]
    assert torch.equal(changed[1][:, :, ::4], base[:, :, ::4])  # an interpolation's LoRA leaves the keyframes alone
    for one in range(3):
        assert not torch.equal(changed[one], base)
        assert not any(torch.equal(changed[one], other) for other in changed[one + 1 :])
    assert {path.name: path.read_bytes() for path in micro_folder.iterdir()} == before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_weights_in_fewer_bits(micro_folder: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    """The sum is rounded once."""
    path = tmp_path / "lora.safetensors"
    write_lora(micro_folder, path, "keyframe")
    wanted = open_model(micro_folder, loras={path: 0.01}).components["keyframe"].load().state_dict()
    found = open_model(micro_folder, loras={path: 0.01}).components["keyframe"].load(dtype).state_dict()
    for name, value in found.items():
        step = torch.finfo(value.dtype).eps
        torch.testing.assert_close(value.float(), wanted[name], rtol=2 * step, atol=0.02 * step)


def test_the_bundled_lora_fits_the_bundled_model() -> None:
    assert open_lora(RING, open_model("tiny").config).part == "keyframe"
    assert inspect_file(RING).kind == "LoRA of rank 8 for the keyframe U-Net of tiny"
    base = component_identity(open_model("tiny").components["keyframe"])["fingerprint"]
    with safe_open(RING, framework="pt") as file:
        assert file.metadata()["base_fingerprint"] == base  # image weights that it was not trained over change it


def test_a_lora_says_what_it_was_trained_on(micro_folder: Path, tmp_path: Path) -> None:
    """`inspect` shows it; over a model of another name there is a warning."""
    path = tmp_path / "lora.safetensors"
    tensors = write_lora(micro_folder, path, "keyframe")
    said = {"fusionframes": "lora keyframe", "model": "another", "rank": "2", "temporal": "blocks", "sizes": "64x64"}
    save_file(tensors, path, said)
    found = inspect_file(path)
    assert found.kind == "LoRA of rank 2 for the keyframe U-Net of another"
    assert found.details == "temporal blocks, sizes 64x64"
    with pytest.warns(UserWarning, match="was trained on another; this model is"):
        open_lora(path, open_model(micro_folder).config)


def test_layers_that_other_temporal_blocks_lack_are_left_out() -> None:
    """With a warning, as in ComfyUI; the bundled LoRA has adapters of the bundled temporal blocks."""
    with pytest.warns(UserWarning, match=r"made for other temporal blocks: \d+ of its \d+ layers are left out"):
        source = open_model("tiny", temporal_blocks="none", loras={RING: 1.0})
    (lora,) = source.components["keyframe"].additions
    assert 0 < len(lora.names) < len(lora.file.entries)
    assert not any("temporal" in name for name in lora.names)
    with_it, without = (
        open_model("tiny", temporal_blocks="none", loras=x).components["keyframe"].load() for x in ({RING: 1.0}, {})
    )
    changed = sum(not torch.equal(value, without.state_dict()[key]) for key, value in with_it.state_dict().items())
    assert changed == len(lora.names) / 2


def test_a_sum_beyond_eight_bits_is_the_largest_number(micro_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    tensors = write_lora(micro_folder, path, "keyframe")
    unet = open_model(micro_folder, loras={path: 100.0}).components["keyframe"].load(torch.float8_e4m3fn)
    name = next(iter(tensors)).removeprefix("diffusion_model.").split(".lora_")[0]
    weight = unet.get_submodule(name).weight.float()
    assert weight.isfinite().all()
    assert weight.abs().max() == torch.finfo(torch.float8_e4m3fn).max


def test_what_does_not_fit_is_said(micro_folder: Path, tmp_path: Path) -> None:
    """Before any model is loaded, and the model that it was meant for is unchanged."""
    config = load_config(micro_folder)
    path = tmp_path / "lora.safetensors"
    tensors = write_lora(micro_folder, path, "keyframe")
    with pytest.raises(ValueError, match="lora strength must be from -100 to 100; got 101"):
        open_lora(path, config, 101)
    with pytest.raises(ValueError, match="lora strength must be from -100 to 100; got nan"):
        open_lora(path, config, float("nan"))
    with pytest.raises(CheckpointError, match=r"is no LoRA of .*its keyframe U-Net: "):
        open_lora(RING, config)
    with pytest.raises(CheckpointError, match=r"is no LoRA of .*keyframe U-Net: .*interpolation U-Net: "):
        open_lora(micro_folder / "movq.safetensors", config)
    with pytest.raises(CheckpointError, match="nowhere"):
        open_lora(tmp_path / "nowhere.safetensors", config)
    unet = open_model(micro_folder).load().keyframe
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    first = next(iter(tensors))
    for wrong in (
        {name: value for name, value in tensors.items() if name != first},
        {**tensors, first: tensors[first][:1]},
        {**tensors, first: tensors[first][:, :-1]},
        {**tensors, "alpha": torch.ones(1)},
        *({**tensors, name: torch.ones(())} for name in tensors),
        *({**tensors, name: torch.ones(2)} for name in tensors),
        *({**tensors, name: value.unsqueeze(-1).repeat_interleave(3, -1)} for name, value in tensors.items()),
    ):
        assert misfit(shapes_in(unet), wrong)
        with pytest.raises(ValueError, match="the LoRA is of another model"):
            add_lora(unet, wrong, 1.0)
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())
