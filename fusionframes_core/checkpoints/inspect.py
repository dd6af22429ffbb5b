"""What a weights file or a model folder holds, read from names, shapes and types alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import CheckpointError, one_sentence
from .checkpoint_info import CheckpointInfo, identify_file
from .component import KINDS, build, component_names, kind_of_file
from .model_folder import CONFIG_FILE
from .official_folder import OFFICIAL_FILES, find_file, official_version
from .open_model import load_config
from .state_dict import some
from .weights_file import Entry, WeightsFile, open_weights

_TYPES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float64: "F64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}


@dataclass(frozen=True)
class FileSummary:
    """A weights file: what kind of model, how many parameters, in which types, and what does not fit the kind.

    `missing` and `unexpected` are names of a model of that kind and size; both are empty for kinds that are not known.
    """

    path: Path
    kind: str
    num_parameters: int
    dtypes: dict[str, int]  # type → parameters
    details: str = ""
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()

    def __str__(self) -> str:
        types = ", ".join(self.dtypes)
        size = self.path.stat().st_size / 2**20
        lines = [f"{self.path.name}: {self.kind}, {self.num_parameters:,} parameters, {types}, {size:.1f} MiB"]
        if self.details:
            lines.append(f"  {self.details}")
        for what, names in (("missing", self.missing), ("extra", self.unexpected)):
            if names:
                lines.append(f"  {len(names)} tensors are {what}: {some(names)}")
        return "\n".join(lines)


def inspect_file(path: str | Path) -> FileSummary:
    """Summarise a weights file. Raises CheckpointError when it is missing, cut short or of another format."""
    file = open_weights(path)
    info = identify_file(file)
    dtypes: Counter[str] = Counter()
    for entry in file.entries.values():
        dtypes[_type_name(entry)] += entry.num_elements
    details, missing, unexpected = _compare(file, info)
    details = _training_of_lora(file) or details
    title = info.title if info.version is None or not info.official else f"official {info.title}"
    title = _title_of_addition(file) or title
    return FileSummary(file.path, title, sum(dtypes.values()), dict(dtypes), details, missing, unexpected)


def _title_of_addition(file: WeightsFile) -> str:
    """What a file says that holds no whole model, but what goes into one; "" for any other."""
    kind, _, unet = file.metadata.get("fusionframes", "").partition(" ")
    if kind == "temporal":
        with one_sentence(f"{file.path} does not say whose temporal parts it holds"):
            return f"temporal parts {json.loads(file.metadata['config'])['temporal']} of a keyframe U-Net"
    if kind == "lora":
        known = file.metadata.get
        return f"LoRA of rank {known('rank', '?')} for the {unet} U-Net of {known('model', 'an unknown model')}"
    return ""


def _training_of_lora(file: WeightsFile) -> str:
    """What a LoRA says that it was trained on; "" for any other file, and for one that says nothing."""
    if not file.metadata.get("fusionframes", "").startswith("lora "):
        return ""
    shown = ("temporal", "sizes", "frames", "layers", "alpha", "base_file", "base_fingerprint")
    return ", ".join(f"{name} {file.metadata[name]}" for name in shown if name in file.metadata)


def _type_name(entry: Entry) -> str:
    return _TYPES.get(entry.dtype, str(entry.dtype).removeprefix("torch.").upper())


def _compare(file: WeightsFile, info: CheckpointInfo) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """The configuration that the shapes show, in words, and what is missing from or extra to a model of it."""
    kind = kind_of_file(info.kind)
    if kind is None or kind.read_architecture is None:
        return "", (), ()
    shapes = {ours: file.entries[theirs].shape for ours, theirs in info.names.items()}
    try:
        config = kind.read_architecture(shapes, info.version)
        own = {name: tuple(value.shape) for name, value in build(config, device="meta").state_dict().items()}
    except (KeyError, ValueError, IndexError):
        return "", (), ()
    details = ", ".join(f"{name} {getattr(config, name)}" for name in kind.shown_fields)
    missing, unexpected = _differences(own, shapes)
    if not info.official and (missing or unexpected):
        return "", (), ()  # choices of ours that names and shapes do not tell apart
    return details, missing, unexpected


def _differences(
    own: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    missing = tuple(name for name in own if name not in found)
    unexpected = tuple(name for name, shape in found.items() if own.get(name) != shape)
    return missing, unexpected


def inspect_path(path: str | Path) -> str:
    """A few lines on a file, or on every model of a folder of ours or of official files."""
    path = Path(path)
    if not path.is_dir():
        return str(inspect_file(path))
    if (path / CONFIG_FILE).is_file():
        return _inspect_own(path)
    version = official_version(path)
    if version is None:
        raise CheckpointError(
            f"{path} must be a weights file or a model folder; it holds no {CONFIG_FILE} and no official files"
        )
    return _inspect_official(path, version)


def _inspect_own(path: Path) -> str:
    config = load_config(path)
    found = [inspect_file(path / KINDS[name].file_name) for name in component_names(config)]
    total = sum(summary.num_parameters for summary in found)
    height, width = config.size
    head = f"{config.name}: {config.num_frames} keyframes at {config.fps:g} FPS, {height}x{width}, {total:,} parameters"
    return "\n".join([head, *map(str, found)])


def _inspect_official(path: Path, version: str) -> str:
    lines = [f"official files of KandinskyVideo {version}"]
    for stem in OFFICIAL_FILES[version].values():
        found = find_file(path, stem)
        lines.append(f"{stem}.pt: missing" if found is None else str(inspect_file(found)))
    return "\n".join(lines)
