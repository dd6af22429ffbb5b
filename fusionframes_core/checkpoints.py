"""Reading and writing weights and model folders.

Models are built first and loaded then: `build(config)`, `load_weights(model, path)`. A model folder holds
`config.json`, `tokenizer.json` and one safetensors file for each model.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from .config import InterpolationConfig, ModelConfig, MoVQConfig, UNetConfig, from_dict, to_dict
from .loading import Sources, load_file, load_sources
from .loading import check_weights as check_weights
from .models.casting import FP8, operations_for, stored_type
from .models.interpolation import InterpolationUNet
from .models.layers import TorchOperations
from .models.movq import MoVQ
from .models.text_encoder import TextEncoder, load_tokenizer
from .models.unet import UNet
from .weights_file import CheckpointError as CheckpointError
from .weights_file import open_weights

BUNDLED = {"tiny": Path(__file__).parent / "tiny"}
CONFIG_FILE, TOKENIZER_FILE = "config.json", "tokenizer.json"
MODEL_FILES = ("text_encoder", "keyframe", "interpolation", "movq")

MODEL_CLASSES: dict[type, Any] = {UNetConfig: UNet, InterpolationConfig: InterpolationUNet, MoVQConfig: MoVQ}


@dataclass(frozen=True)
class ModelParts:
    """The four models of a folder, in evaluation mode, and their config."""

    config: ModelConfig
    text_encoder: TextEncoder
    keyframe: UNet
    interpolation: InterpolationUNet
    movq: MoVQ
    image_movq: MoVQ | None = None  # 1.1: of the first image; None: the video's


def build(
    config: UNetConfig | InterpolationConfig | MoVQConfig,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    operations: Any = TorchOperations,
) -> Any:
    """The model that `config` describes, with memory but no weights (device "meta": not even memory)."""
    return MODEL_CLASSES[type(config)](config, operations, device=device, dtype=dtype)


def read_weights(path: str | Path, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The tensors of a weights file under the file's own names, memory-mapped. Raises CheckpointError."""
    file = open_weights(path)
    return {name: tensor.to(device) for name, tensor in file.tensors(file.entries).items()}


def load_weights(
    model: nn.Module,
    path: str | Path,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Load a file of our or of official names (safetensors, or a PyTorch file of tensors) into `model`, strictly.

    A model on the meta device takes the file's tensors as they are mapped (in `dtype`, on `device`, if given); any
    other keeps its own types and devices and copies. Raises CheckpointError that names every missing, unexpected and
    mis-shaped key; the model is unchanged then.
    """
    load_file(model, open_weights(path), device, dtype)


def save_weights(
    state_dict: Mapping[str, Tensor],
    path: str | Path,
    dtype: torch.dtype | None = torch.float16,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a safetensors file whole or not at all; floating-point tensors become `dtype` (None: as they are).

    In 8 bits (float8_e4m3fn) only matrices are stored. Raises ValueError when a finite weight overflows in `dtype`.
    """
    weights = {key: converted(key, tensor, dtype) for key, tensor in state_dict.items()}
    with atomic_path(path) as partial:
        save_file(weights, partial, metadata={"format": "pt", **(metadata or {})})


def converted(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A copy of a weight as `save_weights` stores it. Raises ValueError when a finite number overflows."""
    kept = tensor.dtype if dtype is None or not tensor.is_floating_point() else stored_type(name, tensor.ndim, dtype)
    copy = tensor.detach().to("cpu", kept, copy=True).contiguous()
    if copy.is_floating_point() and not torch.equal(_finite(tensor).cpu(), _finite(copy)):
        raise ValueError(f"{name} overflows in {copy.dtype}; save it in torch.bfloat16 or torch.float32")
    return copy


def _finite(tensor: Tensor) -> Tensor:
    return (tensor.float() if tensor.dtype.itemsize == 1 else tensor).isfinite()


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, of the same suffix; it becomes `path` on success and is removed on failure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o666 & ~_umask())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def model_folder(name_or_folder: str | Path) -> Path:
    """The folder of a bundled model or of a path. Raises CheckpointError unless it holds a config.json."""
    folder = BUNDLED.get(str(name_or_folder), Path(name_or_folder))
    if not (folder / CONFIG_FILE).is_file():
        names = " or ".join(repr(name) for name in BUNDLED)
        raise CheckpointError(f"model must be {names} or a folder with a {CONFIG_FILE}; got {str(name_or_folder)!r}")
    return folder


def load_config(folder: Path) -> ModelConfig:
    """The ModelConfig of a model folder. Raises CheckpointError when its config.json is none."""
    path = folder / CONFIG_FILE
    try:
        return from_dict(ModelConfig, json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is not the configuration of a model: {error}") from error


def load_model_folder(
    name_or_folder: str | Path, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> ModelParts:
    """Load "tiny" or a model folder. Raises CheckpointError that names the file that is missing or does not fit."""
    folder = model_folder(name_or_folder)
    config = load_config(folder)
    parts = {name: load_part(folder, config, name, dtype, device) for name in part_names(config)}
    return ModelParts(config=config, **parts)


def load_part(folder: Path, config: ModelConfig, name: str, dtype: torch.dtype, device: torch.device | str) -> Any:
    """One of `part_names`, in evaluation mode."""
    kept = part_dtype(name, dtype)
    if name == "text_encoder":
        model: Any = TextEncoder(config.text, read_tokenizer(folder / TOKENIZER_FILE), device="meta")
    else:
        model = build(getattr(config, name), device="meta", operations=operations_for(kept))
    load_weights(model, folder / f"{name}.safetensors", device, kept)
    return model.eval().requires_grad_(False)


def load_network(
    config: UNetConfig | InterpolationConfig | MoVQConfig,
    sources: Sources,
    dtype: torch.dtype,
    device: torch.device | str,
) -> Any:
    """The U-Net or autoencoder of a configuration, from several files' tensors, in evaluation mode."""
    network = build(config, device="meta", operations=operations_for(dtype))
    load_sources(network, sources, device, dtype)
    return network.eval().requires_grad_(False)


def read_tokenizer(path: Path) -> Any:
    """The tokenizer. Raises CheckpointError when it is missing or none."""
    try:
        return load_tokenizer(path)
    except (FileNotFoundError, ValueError) as error:
        raise CheckpointError(str(error)) from error


def part_names(config: ModelConfig) -> tuple[str, ...]:
    """The models of a folder: MODEL_FILES, and the image autoencoder where the config has one."""
    return MODEL_FILES if config.image_movq is None else (*MODEL_FILES, "image_movq")


def part_dtype(name: str, dtype: torch.dtype) -> torch.dtype:
    """The type that a part is kept in when the model is asked for in `dtype`.

    T5 overflows in fp16, and bf16 takes the same memory; in 8 bits only the U-Nets are worth it.
    """
    if name == "text_encoder" and dtype in (torch.float16, FP8):
        return torch.bfloat16
    return torch.bfloat16 if name in ("movq", "image_movq") and dtype == FP8 else dtype


def save_model_folder(parts: ModelParts, folder: str | Path, dtype: torch.dtype | None = torch.float16) -> None:
    """Write a folder that `load_model_folder` reads; the config is written last, so that a half-written one is none."""
    folder = Path(folder)
    for name in part_names(parts.config):
        metadata = {"fusionframes": name, "model": parts.config.name}
        save_weights(getattr(parts, name).state_dict(), folder / f"{name}.safetensors", dtype, metadata)
    with atomic_path(folder / TOKENIZER_FILE) as partial:
        tokenizer: Any = parts.text_encoder.tokenizer
        tokenizer.backend_tokenizer.save(str(partial))
    with atomic_path(folder / CONFIG_FILE) as partial:
        partial.write_text(json.dumps(to_dict(parts.config), indent=2) + "\n", "utf-8")
