"""Reading and writing weights: safetensors only, nothing is ever unpickled.

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
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .config import InterpolationConfig, ModelConfig, MoVQConfig, UNetConfig, from_dict, to_dict
from .models.interpolation import InterpolationUNet
from .models.movq import MoVQ
from .models.text_encoder import TextEncoder, load_tokenizer
from .models.unet import UNet

BUNDLED = {"tiny": Path(__file__).parent / "tiny"}
CONFIG_FILE, TOKENIZER_FILE = "config.json", "tokenizer.json"
MODEL_FILES = ("text_encoder", "keyframe", "interpolation", "movq")
_NAMED_KEYS = 6  # of each kind in an error's sentence; the exception carries all of them

MODEL_CLASSES: dict[type, Any] = {UNetConfig: UNet, InterpolationConfig: InterpolationUNet, MoVQConfig: MoVQ}


class CheckpointError(ValueError):
    """A file that cannot be loaded, or does not fit the model; says so in one sentence.

    `missing`, `unexpected` and `mismatched` name every key that does not fit.
    """

    def __init__(
        self,
        message: str,
        missing: tuple[str, ...] = (),
        unexpected: tuple[str, ...] = (),
        mismatched: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.missing, self.unexpected, self.mismatched = missing, unexpected, mismatched


@dataclass(frozen=True)
class ModelParts:
    """The four models of a folder, in evaluation mode, and their config."""

    config: ModelConfig
    text_encoder: TextEncoder
    keyframe: UNet
    interpolation: InterpolationUNet
    movq: MoVQ


def build(
    config: UNetConfig | InterpolationConfig | MoVQConfig,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Any:
    """The model that `config` describes, with memory but no weights (device "meta": not even memory)."""
    return MODEL_CLASSES[type(config)](config, device=device, dtype=dtype)


def read_weights(path: str | Path, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The tensors of a safetensors file, memory-mapped.

    Raises CheckpointError when the file is missing, cut short, or no safetensors file.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no weights at {path}: the file does not exist")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"cannot load {path}: it must be a complete safetensors file, and this one was cut short or has another "
            f"format ({error})"
        ) from error


def load_weights(
    model: nn.Module,
    path: str | Path,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Load a safetensors file into `model`, strictly.

    A model on the meta device takes the file's tensors as they are mapped (in `dtype`, on `device`, if given); any
    other keeps its own types and devices and copies. Raises CheckpointError that names every missing, unexpected and
    mis-shaped key; the model is unchanged then.
    """
    weights = read_weights(path)
    check_weights(model, weights, str(path))
    on_meta = any(tensor.is_meta for tensor in model.state_dict().values())
    if on_meta:
        weights = {key: tensor.to(device or "cpu", _cast(tensor, dtype)) for key, tensor in weights.items()}
    model.load_state_dict(weights, strict=True, assign=on_meta)


def check_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Raise CheckpointError unless `weights` has exactly the model's keys and shapes."""
    own = model.state_dict()
    missing = tuple(key for key in own if key not in weights)
    unexpected = tuple(key for key in weights if key not in own)
    mismatched = tuple(key for key in own if key in weights and own[key].shape != weights[key].shape)
    if not (missing or unexpected or mismatched):
        return
    shapes = [f"{key} is {tuple(weights[key].shape)}, not {tuple(own[key].shape)}" for key in mismatched]
    kinds = [("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)]
    problems = "; ".join(f"{len(keys)} keys are {kind} ({_some(keys)})" for kind, keys in kinds if keys)
    name = type(model).__name__
    raise CheckpointError(f"{source} does not fit {name}: {problems}", missing, unexpected, mismatched)


def _some(keys: Any) -> str:
    named = ", ".join(keys[:_NAMED_KEYS])
    return named if len(keys) <= _NAMED_KEYS else f"{named} and {len(keys) - _NAMED_KEYS} more"


def _cast(tensor: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    return dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype


def save_weights(
    state_dict: Mapping[str, Tensor],
    path: str | Path,
    dtype: torch.dtype | None = torch.float16,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a safetensors file whole or not at all; floating-point tensors become `dtype` (None: as they are).

    Raises ValueError when a finite weight overflows in `dtype`.
    """
    weights: dict[str, Tensor] = {}
    for key, tensor in state_dict.items():
        converted = tensor.detach().to("cpu", _cast(tensor, dtype), copy=True).contiguous()
        if converted.is_floating_point() and not torch.equal(tensor.isfinite().cpu(), converted.isfinite()):
            raise ValueError(f"{key} overflows in {converted.dtype}; save it in torch.bfloat16 or torch.float32")
        weights[key] = converted
    with atomic_path(path) as partial:
        save_file(weights, partial, metadata={"format": "pt", **(metadata or {})})


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
    try:
        tokenizer = load_tokenizer(folder / TOKENIZER_FILE)
    except (FileNotFoundError, ValueError) as error:
        raise CheckpointError(str(error)) from error
    models = {
        "text_encoder": TextEncoder(config.text, tokenizer, device="meta"),
        "keyframe": build(config.keyframe, device="meta"),
        "interpolation": build(config.interpolation, device="meta"),
        "movq": build(config.movq, device="meta"),
    }
    for name, model in models.items():
        # T5 overflows in fp16; bf16 takes the same memory.
        kept = torch.bfloat16 if name == "text_encoder" and dtype == torch.float16 else dtype
        load_weights(model, folder / f"{name}.safetensors", device, kept)
        model.eval().requires_grad_(False)
    return ModelParts(config=config, **models)


def save_model_folder(parts: ModelParts, folder: str | Path, dtype: torch.dtype | None = torch.float16) -> None:
    """Write a folder that `load_model_folder` reads; the config is written last, so that a half-written one is none."""
    folder = Path(folder)
    for name in MODEL_FILES:
        metadata = {"fusionframes": name, "model": parts.config.name}
        save_weights(getattr(parts, name).state_dict(), folder / f"{name}.safetensors", dtype, metadata)
    with atomic_path(folder / TOKENIZER_FILE) as partial:
        tokenizer: Any = parts.text_encoder.tokenizer
        tokenizer.backend_tokenizer.save(str(partial))
    with atomic_path(folder / CONFIG_FILE) as partial:
        partial.write_text(json.dumps(to_dict(parts.config), indent=2) + "\n", "utf-8")
