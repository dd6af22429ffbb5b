"""Files of any origin: what is no whole file of weights of the right model is refused in one sentence, unread."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fusionframes_core.checkpoints.checkpoint_info import identify
from fusionframes_core.checkpoints.component import build
from fusionframes_core.checkpoints.open_model import load_weights
from fusionframes_core.checkpoints.weights_file import open_weights
from fusionframes_core.config import ModelConfig
from fusionframes_core.errors import CheckpointError
from tests.helpers.official_cases import small_official

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Bomb:
    """Unpickling it runs a command."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def refusal(model: nn.Module, path: Path) -> str:
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_weights(model, path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    return message


@pytest.fixture
def model() -> nn.Module:
    return nn.Linear(3, 4)


@pytest.mark.parametrize("old", [False, True], ids=["archive", "legacy"])
@pytest.mark.parametrize("place", ["alone", "beside weights"])
def test_a_file_that_would_run_code_is_refused(tmp_path: Path, model: nn.Module, old: bool, place: str) -> None:
    mark, path = tmp_path / "ran", tmp_path / "evil.pt"
    content = Bomb(mark) if place == "alone" else {**model.state_dict(), "zz": Bomb(mark)}
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    message = refusal(model, path)
    assert "could run code" in message
    assert "posix.mkdir" in message
    assert not mark.exists()


def test_a_bare_pickle_is_refused(tmp_path: Path, model: nn.Module) -> None:
    mark, path = tmp_path / "ran", tmp_path / "evil.ckpt"
    path.write_bytes(b"cposix\nmkdir\n(S'" + str(mark).encode() + b"'\ntR.")
    assert "could run code" in refusal(model, path)
    assert not mark.exists()


def test_a_pickle_under_another_name_is_not_unpickled(tmp_path: Path, model: nn.Module) -> None:
    mark, path = tmp_path / "ran", tmp_path / "evil.safetensors"
    torch.save(Bomb(mark), path)
    assert "it is a PyTorch file; give it a name that ends in .pt" in refusal(model, path)
    assert not mark.exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 0.99])
def test_a_file_that_was_cut_short_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    model, path = nn.Linear(40, 40), tmp_path / f"cut{suffix}"
    state = {key: value.clone() for key, value in model.state_dict().items()}
    torch.save(state, path) if suffix == ".pt" else save_file(state, path)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    refusal(model, path)


def test_files_without_weights_are_refused(tmp_path: Path, model: nn.Module) -> None:
    torch.save({"epoch": 3, "name": "x"}, tmp_path / "none.pt")
    assert "holds no weights" in refusal(model, tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("hello world " * 99)
    assert "must be a complete PyTorch file" in refusal(model, tmp_path / "text.pt")
    assert "does not exist" in refusal(model, tmp_path / "nothing.pt")


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1\nsize 12345\n"
PAGE = "\ufeff\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".ckpt", ".safetensors"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (LFS, "it is a Git LFS pointer, which only names the weights: fetch them with `git lfs pull`"),
        (PAGE, "it is a web page, not weights: download the file itself"),
        ("<HTML><BODY>404", "it is a web page"),
        ('{"error": "Invalid credentials"}', "it is a server's answer, not weights"),
    ],
)
def test_what_a_download_left_behind_is_called_by_its_name(
    tmp_path: Path, model: nn.Module, suffix: str, content: str, what: str, recwarn: pytest.WarningsRecorder
) -> None:
    (tmp_path / f"w{suffix}").write_text(content, "utf-8")
    assert what in refusal(model, tmp_path / f"w{suffix}")
    assert not recwarn.list


def test_numbers_beside_the_weights_are_passed_over(tmp_path: Path, model: nn.Module) -> None:
    torch.save({**{key: value + 1 for key, value in model.state_dict().items()}, "epoch": 3}, tmp_path / "w.pt")
    expected = model.weight.detach() + 1
    load_weights(model, tmp_path / "w.pt")
    assert torch.equal(model.weight, expected)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64])
def test_weights_of_a_wrong_type_are_refused(tmp_path: Path, model: nn.Module, dtype: torch.dtype) -> None:
    state = {key: value.to(dtype) for key, value in model.state_dict().items()}
    torch.save(state, tmp_path / "w.pt")
    assert f"weight is {str(dtype).removeprefix('torch.')}" in refusal(model, tmp_path / "w.pt")


def foreign(names: dict[str, tuple[int, ...]], path: Path) -> Path:
    state: dict[str, Tensor] = {name: torch.zeros(shape) for name, shape in names.items()}
    torch.save({"state_dict": state} if path.suffix == ".ckpt" else state, path)
    return path


SD = "model.diffusion_model.input_blocks"
FOREIGN = {
    "a Stable Diffusion 1.x checkpoint": {
        f"{SD}.0.0.weight": (32, 4, 3, 3),
        f"{SD}.1.1.transformer_blocks.0.attn2.to_k.weight": (32, 768),
        "first_stage_model.decoder.conv_in.weight": (8, 4, 3, 3),
    },
    "a Stable Diffusion 2.x checkpoint": {
        f"{SD}.0.0.weight": (32, 4, 3, 3),
        f"{SD}.1.1.transformer_blocks.0.attn2.to_k.weight": (32, 1024),
    },
    "a Wan model": {
        "blocks.0.self_attn.q.weight": (8, 8),
        "blocks.0.cross_attn.k.weight": (8, 8),
        "patch_embedding.weight": (8, 16, 1, 2, 2),
        "head.modulation": (1, 2, 8),
    },
    "a Flux model": {"double_blocks.0.img_attn.qkv.weight": (8, 8), "img_in.weight": (8, 8)},
    "a LoRA": {"lora_unet_down_blocks_0.lora_up.weight": (8, 8), "lora_unet_down_blocks_0.lora_down.weight": (8, 8)},
    "a Stable Diffusion autoencoder": {
        "decoder.mid.block_1.norm1.weight": (8,),
        "encoder.conv_in.weight": (8, 3, 3, 3),
    },
}


@pytest.mark.parametrize("title", FOREIGN)
@pytest.mark.parametrize("suffix", [".ckpt", ".pt"])
def test_models_of_others_are_called_by_their_names(tmp_path: Path, title: str, suffix: str) -> None:
    path = foreign(FOREIGN[title], tmp_path / f"model{suffix}")
    config = small_official("1.0")
    for part, expected in (("keyframe", "a keyframe U-Net"), ("movq", "a MoVQ autoencoder")):
        message = refusal(build(getattr(config, part)), path)
        assert message == f"{path} is {title}, but {expected} was expected"


def test_a_unet_is_no_movq_and_a_movq_no_unet(tmp_path: Path) -> None:
    config = small_official("1.1")
    keyframe, movq = build(config.keyframe), build(config.movq)
    save_file(keyframe.state_dict(), tmp_path / "k.safetensors")
    save_file(movq.state_dict(), tmp_path / "m.safetensors")
    assert "is a keyframe U-Net, but a MoVQ autoencoder was expected" in refusal(movq, tmp_path / "k.safetensors")
    assert "is a MoVQ autoencoder, but a keyframe U-Net was expected" in refusal(keyframe, tmp_path / "m.safetensors")
    message = refusal(build(config.interpolation), tmp_path / "k.safetensors")
    assert "is a keyframe U-Net, but an interpolation U-Net was expected" in message


def test_what_is_not_known_is_compared_key_by_key(tmp_path: Path, micro_config: ModelConfig) -> None:
    assert identify({"x": (3,)}).phrase == "a model of an unknown kind"
    save_file({"x": torch.zeros(3)}, tmp_path / "x.safetensors")
    message = refusal(build(micro_config.movq), tmp_path / "x.safetensors")
    assert message.endswith("is a model of an unknown kind, but a MoVQ autoencoder was expected")


def test_shapes_and_types_are_told_without_reading(tmp_path: Path) -> None:
    state = {"a": torch.zeros(2, 3), "b": {"c": torch.zeros(4, dtype=torch.bfloat16)}}
    torch.save(state, tmp_path / "w.pt")
    file = open_weights(tmp_path / "w.pt")
    assert file.shapes == {"a": (2, 3), "b.c": (4,)}
    assert file.entries["b.c"].dtype == torch.bfloat16
    assert file.entries["b.c"].nbytes == 8
    portions = [list(portion) for portion in file.portions(file.entries, limit=1)]
    assert portions == [["a"], ["b.c"]]


def awkward_state(old: bool) -> dict[str, Any]:
    """Tensors that share a storage, views of all kinds, no numbers at all, one number, several types.

    The format before 2020 knows no 8-bit floats.
    """
    shared = torch.arange(24.0).reshape(4, 6)
    return {
        "whole": shared,
        "row": shared[1],
        "column": shared[:, 2],
        "turned": shared.t(),
        "empty": torch.zeros(0, 3),
        "number": torch.tensor(3.5),
        "half": torch.arange(7, dtype=torch.float16),
        "eight": torch.arange(5.0).to(torch.float16 if old else torch.float8_e4m3fn),
        "nested": {"odd": torch.arange(3, dtype=torch.bfloat16)},
    }


@pytest.mark.parametrize("old", [False, True], ids=["archive", "legacy"])
def test_a_pytorch_file_is_unpickled_once_however_often_it_is_read(
    tmp_path: Path, old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mapped tensors are those that torch.load gives, and what is written to them never reaches the file."""
    path, calls, load = tmp_path / "w.pt", [], torch.load
    state = awkward_state(old)
    torch.save(state, path, _use_new_zipfile_serialization=not old)
    before = path.read_bytes()
    monkeypatch.setattr(torch, "load", lambda *given, **named: calls.append(given) or load(*given, **named))
    file = open_weights(path)
    expected = {
        **{key: value for key, value in state.items() if key != "nested"},
        "nested.odd": state["nested"]["odd"],
    }
    for _ in range(2):
        found = file.tensors(file.entries)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key].float(), expected[key].float()) for key in found)
        assert {key: found[key].dtype for key in found} == {key: expected[key].dtype for key in found}
        for portion in file.portions(file.entries, limit=1):
            for tensor in portion.values():
                tensor.zero_()
    assert path.read_bytes() == before
    if not old:
        assert len(calls) == 1


def test_loading_a_pytorch_file_unpickles_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Converted to another type too, where it is read in portions."""
    state = {f"{i}.weight": torch.full((64, 64), float(i)) for i in range(40)}
    torch.save(state, tmp_path / "w.pt")
    calls, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda *given, **named: calls.append(given) or load(*given, **named))
    model = nn.Sequential(*(nn.Linear(64, 64, bias=False, device="meta") for _ in range(40)))
    load_weights(model, tmp_path / "w.pt", dtype=torch.bfloat16)
    assert all((layer.weight == i).all() for i, layer in enumerate(model))
    assert len(calls) == 1


@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="peak memory is read from /proc, which this system does not have")
@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_loading_takes_no_more_memory_than_the_file(tmp_path: Path, suffix: str, dtype: torch.dtype | None) -> None:
    """Peak of resident memory, mapped pages included, while 256 MB of weights are loaded and then read once."""
    path = tmp_path / f"w{suffix}"
    state = {f"{i}.weight": torch.full((2048, 2048), float(i)) for i in range(16)}
    torch.save(state, path) if suffix == ".pt" else save_file(state, path)
    del state
    model = nn.Sequential(*(nn.Linear(2048, 2048, bias=False, device="meta") for _ in range(16)))
    before = status_mb("VmRSS")
    CLEAR_REFS.write_text("5")  # forget the peak so far
    load_weights(model, path, dtype=dtype)
    assert all((layer.weight == i).all() for i, layer in enumerate(model))
    growth = status_mb("VmHWM") - before
    del model
    print(f"{growth:.0f} MB for a file of 256 MB")
    assert growth <= 1.1 * 256 if dtype is None else growth <= 0.8 * 256


def status_mb(name: str) -> float:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024
