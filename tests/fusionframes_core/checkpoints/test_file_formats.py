"""A file's format is told by what it holds, not by its name; what has another one is called by its own."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fusionframes_core.checkpoints.open_model import load_weights
from fusionframes_core.checkpoints.pytorch_file import is_plain
from fusionframes_core.checkpoints.weights_file import open_weights
from fusionframes_core.errors import CheckpointError

STATE = {"weight": torch.arange(12.0).reshape(4, 3), "bias": torch.arange(4.0)}


def write_tar(source: Path, target: Path) -> None:
    with tarfile.open(target, "w") as archive:
        archive.add(source, "weights.pt")


PACK: dict[str, Callable[[Path, Path], object]] = {
    "gzip": lambda source, target: target.write_bytes(gzip.compress(source.read_bytes())),
    "bzip2": lambda source, target: target.write_bytes(bz2.compress(source.read_bytes())),
    "xz": lambda source, target: target.write_bytes(lzma.compress(source.read_bytes())),
    "tar": write_tar,
}


@pytest.mark.parametrize("name", ["w.pt", "w.ckpt", "w.bin", "w.sft", "w", "W.SAFETENSORS"])
def test_safetensors_are_read_under_every_name(tmp_path: Path, name: str) -> None:
    save_file(STATE, tmp_path / name)
    model = nn.Linear(3, 4)
    load_weights(model, tmp_path / name)
    assert torch.equal(model.weight, STATE["weight"])


@pytest.mark.parametrize("old", [False, True], ids=["archive", "legacy"])
@pytest.mark.parametrize("name", ["w.safetensors", "w.sft", "w"])
def test_a_pytorch_file_of_another_name_is_called_so(tmp_path: Path, name: str, old: bool) -> None:
    torch.save(STATE, tmp_path / name, _use_new_zipfile_serialization=not old)
    with pytest.raises(CheckpointError, match=r"it is a PyTorch file; give it a name that ends in \.pt"):
        open_weights(tmp_path / name)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("packer", PACK)
def test_a_packed_file_is_called_so(tmp_path: Path, packer: str, suffix: str) -> None:
    torch.save(STATE, tmp_path / "plain.pt")
    PACK[packer](tmp_path / "plain.pt", tmp_path / f"w{suffix}")
    with pytest.raises(CheckpointError, match=rf"w{suffix}: it is packed by {packer}; unpack it first"):
        open_weights(tmp_path / f"w{suffix}")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_what_is_no_file_of_weights_is_not_called_dangerous(tmp_path: Path, suffix: str) -> None:
    """Nor by the number of an instruction that its bytes happen to be."""
    path = tmp_path / f"w{suffix}"
    for content in (b"", b"\x98" * 99, b"\x1f" * 99, bytes(range(99)), b"\x89HDF\r\n\x1a\n" + bytes(99)):
        path.write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            open_weights(path)
        assert "run code" not in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_of_any_protocol_that_holds_more_than_weights_is_refused(tmp_path: Path, protocol: int) -> None:
    """Newer ones name what they call by instructions that no file of weights has."""
    name = b"cposix\nmkdir\n" if protocol < 4 else b"\x8c\x05posix\x8c\x05mkdir\x93"
    (tmp_path / "w.pt").write_bytes(bytes((0x80, protocol)) + name + b"X\x01\x00\x00\x00x\x85R.")
    with pytest.raises(CheckpointError, match=r"holds more than weights( \([A-Za-z_.]+\))?, and reading that could"):
        open_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("old", [False, True], ids=["archive", "legacy"])
def test_weights_that_are_sparse_are_named_and_what_is_sparse_beside_weights_is_left(tmp_path: Path, old: bool) -> None:
    path, model = tmp_path / "w.pt", nn.Linear(3, 4)
    torch.save({**STATE, "more": STATE["bias"].to_sparse()}, path, _use_new_zipfile_serialization=not old)
    file = open_weights(path)
    assert torch.equal(file.tensors(["weight"])["weight"], STATE["weight"])
    torch.save({**STATE, "bias": STATE["bias"].to_sparse()}, path, _use_new_zipfile_serialization=not old)
    with pytest.raises(CheckpointError, match="weights must be dense, and bias is sparse"):
        load_weights(model, path)


def test_plain_tensors_are_numbers_in_a_storage() -> None:
    assert all(is_plain(tensor) for tensor in (STATE["weight"].t(), torch.zeros(0, 3), torch.tensor(True)))
    assert not is_plain(STATE["weight"].to_sparse_csr())
    assert not is_plain(torch.zeros(2, device="meta"))


def test_weights_without_numbers_or_quantised_are_named(tmp_path: Path) -> None:
    torch.save({**STATE, "bias": torch.empty(4, device="meta")}, tmp_path / "meta.pt")
    with pytest.raises(CheckpointError, match="weights must be dense, and bias is without numbers"):
        load_weights(nn.Linear(3, 4), tmp_path / "meta.pt")
    quantised = torch.quantize_per_tensor(STATE["bias"], 0.1, 0, torch.qint8)
    torch.save({**STATE, "bias": quantised}, tmp_path / "quantised.pt")
    with pytest.raises(CheckpointError, match="weights must be floating-point numbers, and bias is qint8"):
        load_weights(nn.Linear(3, 4), tmp_path / "quantised.pt")
