"""Weights files from one layout to the other, and whole models in the official layout."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..config import ModelConfig, to_dict
from ..errors import CheckpointError
from ..files import atomic_path
from ..models.text_encoder import TextEncoder
from .checkpoint_info import TEXT_PREFIX, CheckpointInfo, component_of, identify_file
from .component import KINDS, ModelParts, kind_of_file
from .embedded_config import CONFIG_TENSOR, MODEL_CONFIG, text_tensor
from .names import RULES, TEXT_RULES, official_from_ours
from .official_folder import CONFIGS_FILE, OFFICIAL_FILES, OWN_SECTION, TEXT_FOLDERS
from .state_dict import converted, weights_path
from .text_encoder_weights import TOKENIZER_FILE
from .weights_file import PICKLED, PORTION, SAFETENSORS, WeightsFile, open_weights

LAYOUTS = ("ours", "official")


def convert_file(
    source: str | Path, target: str | Path, layout: str = "ours", dtype: torch.dtype | None = None
) -> tuple[CheckpointInfo, int]:
    """Rewrite a weights file in a layout ("ours" or "official") and a type (None: as it is).

    The text's parts of an official file (null embedding, projection) come along, under the prefix `text.`. The
    target's suffix says its format. Returns what the source is, and the number of tensors written. Raises
    CheckpointError for a file that cannot be read or is no model of ours, ValueError for a bad target.
    """
    target = Path(target)
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}; got {layout!r}")
    if target.suffix.lower() not in (*SAFETENSORS, *PICKLED):
        raise ValueError(f"the output must be a .safetensors or .pt file; got '{target}'")
    file = open_weights(source)
    info = identify_file(file)
    if info.kind is None:
        raise CheckpointError(
            f"{file.path} is {info.phrase}, but a U-Net, MoVQ or text projection of KandinskyVideo was expected"
        )
    names = {theirs: ours for ours, theirs in info.names.items()}
    names |= {theirs: TEXT_PREFIX + ours for ours, theirs in info.text.items()}
    version = layout_version(info, file)
    if layout == "official":
        names = {theirs: _official_name(ours, info, version) for theirs, ours in names.items()}
    tensors = {names[theirs]: tensor for theirs, tensor in _converted(file, names, dtype)}
    metadata: dict[str, str] = {}
    if layout == "ours":
        metadata = _metadata(info, file, version) if info.official else _own_metadata(info, file)
        if MODEL_CONFIG in file.metadata:
            tensors[CONFIG_TENSOR] = text_tensor(file.metadata[MODEL_CONFIG])
    write_tensors(tensors, target, metadata)
    return info, len(tensors)


def layout_version(info: CheckpointInfo, file: WeightsFile) -> str:
    """The version whose official names fit: the file's, or the one that has such parts."""
    recorded = file.metadata.get("version")
    if info.version or recorded:
        return str(info.version or recorded)
    marks = ("image_in_layer.", ".temporal_attention_block.", ".temporal")
    mark = {"keyframe": marks[0], "interpolation": marks[1], "movq": marks[2]}.get(info.kind or "")
    return "1.1" if mark is not None and any(mark in f".{name}" for name in info.names) else "1.0"


def _official_name(ours: str, info: CheckpointInfo, version: str) -> str:
    kind = component_of(str(info.kind))
    if ours.startswith(TEXT_PREFIX):
        return official_from_ours(ours.removeprefix(TEXT_PREFIX), TEXT_RULES.get((kind, version), ()))
    if (kind, version) not in RULES:
        raise CheckpointError(f"there is no official layout of {info.phrase}")
    return KINDS[kind].official_prefix + official_from_ours(ours, RULES[kind, version])


def _converted(file: WeightsFile, names: Mapping[str, str], dtype: torch.dtype | None) -> Iterator[tuple[str, Tensor]]:
    """The file's tensors in `dtype`; a type that stays as it is stays mapped."""
    if dtype is None:
        yield from ((name, tensor.contiguous()) for name, tensor in file.tensors(names).items())
        return
    for portion in file.portions(names, PORTION):
        for theirs, tensor in portion.items():
            yield theirs, converted(names[theirs], tensor, dtype)


def _own_metadata(info: CheckpointInfo, file: WeightsFile) -> dict[str, str]:
    """What a file of ours says of itself: shapes alone tell neither heads nor norms nor how a model is sampled."""
    kept = {name: file.metadata[name] for name in ("version", "config") if name in file.metadata}
    return {"format": "pt", "fusionframes": str(info.kind), **kept}


def _metadata(info: CheckpointInfo, file: WeightsFile, version: str) -> dict[str, str]:
    """What an official file says of itself: kind, version and, where it has one, its configuration."""
    metadata = {"format": "pt", "fusionframes": str(info.kind), "version": version}
    kind = kind_of_file(info.kind)
    if kind is not None and kind.read_architecture is not None:
        shapes = {ours: file.entries[theirs].shape for ours, theirs in info.names.items()}
        metadata["config"] = json.dumps(to_dict(kind.read_architecture(shapes, version)))
    return metadata


def write_tensors(tensors: Mapping[str, Tensor], target: Path, metadata: Mapping[str, str]) -> None:
    """Write a file whole or not at all: safetensors, or PyTorch's with the nesting of the official files.

    Raises OSError when the disk is full.
    """
    with weights_path(target) as partial:
        if target.suffix.lower() in SAFETENSORS:
            save_file(dict(tensors), partial, metadata=dict(metadata) or {"format": "pt"})
        else:
            # An open file's errors are the system's; of one that torch opens it says but `unexpected pos`.
            with open(partial, "wb") as file:
                torch.save(_nested(tensors), file)


def _nested(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """`unet.…` and `projections.…` as dictionaries of their own, as the official code reads them."""
    content: dict[str, Any] = {}
    for name, tensor in tensors.items():
        head, _, rest = name.partition(".")
        if head in ("unet", "projections", "projection_base", "projection_interpolation"):
            content.setdefault(head, {})[rest] = tensor
        else:
            content[name] = tensor
    return content


@torch.no_grad()
def save_official_folder(parts: ModelParts, folder: str | Path) -> None:
    """Write a model in the official layout, which `official.open_official` reads; values and types are kept.

    What the official files do not say (sampling, sizes, our own choices) is in `configs.json`.
    """
    folder = Path(folder)
    save_official_networks(parts, folder)
    _save_t5(parts, folder / TEXT_FOLDERS[0])
    with atomic_path(folder / CONFIGS_FILE) as partial:
        partial.write_text(json.dumps({OWN_SECTION: to_dict(parts.config)}, indent=2) + "\n", "utf-8")


@torch.no_grad()
def save_official_networks(parts: ModelParts, folder: Path) -> None:
    """The files of `save_official_folder` but for T5's: U-Nets, autoencoders, and what the text has beside T5.

    A component is asked for when its file is written, and let go.
    """
    version = version_of(parts.config)
    text = {name: value for name, value in parts.text_encoder.state_dict().items() if not name.startswith("t5.")}
    text.setdefault("interpolation.null_embedding", text["null_embedding"])
    for name, stem in OFFICIAL_FILES[version].items():
        tensors: dict[str, Tensor] = {}
        model = getattr(parts, name, None)
        if name == "image_movq" and model is None:
            model = parts.movq
        if model is not None:
            kind = "movq" if name == "image_movq" else name
            prefix = "unet." if kind in ("keyframe", "interpolation") else ""
            rules = RULES[kind, version]
            tensors = {prefix + official_from_ours(ours, rules): value for ours, value in model.state_dict().items()}
        tensors |= _official_text(text, name, version)
        write_tensors({key: value.contiguous() for key, value in tensors.items()}, folder / f"{stem}.pt", {})


def version_of(config: ModelConfig) -> str:
    """The version in whose official layout a model is written."""
    return "1.1" if config.keyframe.image_input else "1.0"


def _official_text(text: Mapping[str, Tensor], name: str, version: str) -> dict[str, Tensor]:
    """The text's parts that an official file holds."""
    found = {}
    for rule in TEXT_RULES.get((name, version), ()):
        for ours, value in text.items():
            official = official_from_ours(ours, (rule,))
            if official != ours or ours == rule[1].strip("^$"):
                found[official] = value
    return found


def _save_t5(parts: ModelParts, folder: Path) -> None:
    state = official_t5(parts.text_encoder, version_of(parts.config))
    write_tensors({key: value.contiguous() for key, value in state.items()}, folder / "model.safetensors", {})
    save_text_files(parts.text_encoder, folder)


def official_t5(encoder: TextEncoder, version: str) -> dict[str, Tensor]:
    """T5's tensors under their official names."""
    rules = RULES["t5", version]
    return {official_from_ours(ours, rules): value for ours, value in encoder.state_dict().items() if ours[:3] == "t5."}


def save_text_files(encoder: TextEncoder, folder: Path) -> None:
    """`config.json` and `tokenizer.json` beside T5's weights."""
    t5, tokenizer = typing.cast(Any, encoder.t5), typing.cast(Any, encoder.tokenizer)
    with atomic_path(folder / "config.json") as partial:
        partial.write_text(json.dumps(t5.config.to_dict(), indent=2) + "\n", "utf-8")
    with atomic_path(folder / TOKENIZER_FILE) as partial:
        tokenizer.backend_tokenizer.save(str(partial))
