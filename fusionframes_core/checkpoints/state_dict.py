"""Weights from files into models and back: checked first, whole or not at all, in no more memory than they take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import CheckpointError
from ..files import atomic_path
from ..models.casting import stored_type
from .weights_file import FLOATS, PORTION, Entry, WeightsFile, open_weights


def read_weights(path: str | Path, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The tensors of a weights file under the file's own names, memory-mapped. Raises CheckpointError."""
    file = open_weights(path)
    return {name: tensor.to(device) for name, tensor in file.tensors(file.entries).items()}


def save_weights(
    state_dict: Mapping[str, Tensor],
    path: str | Path,
    dtype: torch.dtype | None = torch.float16,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a safetensors file whole or not at all; floating-point tensors become `dtype` (None: as they are).

    In 8 bits (float8_e4m3fn) only matrices are stored. Raises ValueError when a finite weight overflows in `dtype`, and
    OSError when the disk is full.
    """
    weights = {key: converted(key, tensor, dtype) for key, tensor in state_dict.items()}
    with weights_path(path) as partial:
        save_file(weights, partial, metadata={"format": "pt", **(metadata or {})})


@contextmanager
def weights_path(path: str | Path) -> Iterator[Path]:
    """`atomic_path` for a weights file: what its library raises of the disk is an OSError that names `path`."""
    with atomic_path(path) as partial:
        try:
            yield partial
        except (SafetensorError, OSError, RuntimeError) as error:
            # torch ends a file that it could not write with an error of its own, which hides the system's.
            failed = error.__context__ if isinstance(error, RuntimeError) else error
            if not isinstance(failed, SafetensorError | OSError):
                raise
            raise OSError(f"cannot write '{path}': {getattr(failed, 'strerror', None) or failed}") from error


def converted(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A copy of a weight as `save_weights` stores it. Raises ValueError when a finite number overflows."""
    kept = tensor.dtype if dtype is None or not tensor.is_floating_point() else stored_type(name, tensor.ndim, dtype)
    copy = tensor.detach().to("cpu", kept, copy=True).contiguous()
    if copy.is_floating_point() and not torch.equal(_finite(tensor).cpu(), _finite(copy)):
        raise ValueError(f"{name} overflows in {copy.dtype}; save it in torch.bfloat16 or torch.float32")
    return copy


def _finite(tensor: Tensor) -> Tensor:
    return (tensor.float() if tensor.dtype.itemsize == 1 else tensor).isfinite()


Sources = Sequence[tuple[WeightsFile, Mapping[str, str]]]
"""Files, each with what is taken from it: our name → the file's."""

_NAMED_KEYS = 6  # of each kind in an error's sentence; the exception carries all of them
_PORTIONS = 32  # a converted file is read in at most that many portions


def load_sources(
    model: nn.Module, sources: Sources, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> None:
    """Load tensors from files into `model`, strictly.

    A model on the meta device takes the tensors as they are mapped, or converted to `dtype` and `device` a few at a
    time; any other keeps its own types and devices and copies. In 8 bits (float8_e4m3fn) only matrices are stored.
    Raises CheckpointError that names every missing, unexpected and mis-shaped key; the model is unchanged then.
    """
    check_sources(model, sources)
    own = model.state_dict()
    on_meta = any(tensor.is_meta for tensor in own.values())
    target = torch.device(device or "cpu") if on_meta else torch.device("cpu")
    weights = read_sources(sources, own, target, dtype if on_meta else None)
    model.load_state_dict(weights, strict=True, assign=on_meta)


def read_sources(
    sources: Sources, own: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype | None
) -> dict[str, Tensor]:
    """The tensors under our names, in the shapes of `own`; what is not converted or moved stays mapped."""
    weights: dict[str, Tensor] = {}
    for file, names in sources:
        ours = {theirs: name for name, theirs in names.items()}
        kept = {theirs: _kept(ours[theirs], file, theirs, dtype) for theirs in ours}
        plain = device.type == "cpu" and all(kept[theirs] == file.entries[theirs].dtype for theirs in ours)
        total = sum(file.entries[theirs].nbytes for theirs in ours)
        limit = total if plain else max(PORTION, total // _PORTIONS)
        for portion in file.portions(ours, limit):
            for theirs, tensor in portion.items():
                name = ours[theirs]
                weights[name] = tensor.to(device, kept[theirs]).reshape(own[name].shape)
    return weights


def _kept(name: str, file: WeightsFile, theirs: str, dtype: torch.dtype | None) -> torch.dtype:
    entry = file.entries[theirs]
    return entry.dtype if dtype is None else stored_type(name, len(entry.shape), dtype)


def check_sources(model: nn.Module, sources: Sources) -> None:
    """`check_weights` for what is taken from several files."""
    found = {name: file.entries[theirs] for file, names in sources for name, theirs in names.items()}
    check_weights(model, found, named_files(sources))


def named_files(sources: Sources) -> str:
    """The files in words."""
    return ", ".join(str(file.path) for file, _ in sources)


def check_weights(model: nn.Module, weights: Mapping[str, Tensor | Entry], source: str) -> None:
    """Raise CheckpointError unless `weights` has exactly the model's keys and shapes, as floating-point numbers."""
    own = model.state_dict()
    name = type(model).__name__
    wrong = [key for key, value in weights.items() if key in own and value.dtype not in FLOATS]
    if wrong:
        kind = str(weights[wrong[0]].dtype).removeprefix("torch.")
        raise CheckpointError(
            f"{source} does not fit {name}: weights must be floating-point numbers, and {wrong[0]} is {kind}"
        )
    missing = tuple(key for key in own if key not in weights)
    unexpected = tuple(key for key in weights if key not in own)
    mismatched = tuple(key for key in own if key in weights and not _fits(key, own[key].shape, weights[key].shape))
    if not (missing or unexpected or mismatched):
        return
    shapes = [f"{key} is {tuple(weights[key].shape)}, not {tuple(own[key].shape)}" for key in mismatched]
    kinds: list[tuple[str, Any]] = [("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)]
    problems = "; ".join(f"{len(keys)} keys are {kind} ({some(keys)})" for kind, keys in kinds if keys)
    raise CheckpointError(f"{source} does not fit {name}: {problems}", missing, unexpected, mismatched)


def _fits(name: str, own: Sequence[int], found: Sequence[int]) -> bool:
    """Equal shapes; a null embedding may have axes of length one before its numbers."""
    own, found = tuple(own), tuple(found)
    return own == found or (name.endswith("null_embedding") and own == tuple(size for size in found if size != 1))


def some(keys: Sequence[str]) -> str:
    """The first few of many names."""
    named = ", ".join(keys[:_NAMED_KEYS])
    return named if len(keys) <= _NAMED_KEYS else f"{named} and {len(keys) - _NAMED_KEYS} more"
