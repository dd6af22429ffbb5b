"""Folders of official files: `kandinsky_video.pt`, ... (1.0) or `t2v.pt`, ... (1.1), and a Flan-UL2 beside them.

Weights stay under their official names in the files; they are renamed as they are loaded. Files may be PyTorch's or
safetensors, in the folder itself or in its `weights`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..config import ModelConfig, TextEncoderConfig, from_dict
from ..errors import CheckpointError, one_sentence
from ..presets import KANDINSKY_VIDEO_1_0, KANDINSKY_VIDEO_1_1
from .architecture import Hints, interpolation_config, movq_config, text_config, unet_config
from .component import load_network, part_dtype
from .identify import Identity, identify
from .model_folder import read_tokenizer
from .state_dict import Sources, require_kind
from .text_encoder_weights import TextOptions, load_text_encoder
from .weights_file import PICKLED, SAFETENSORS, WeightsFile, open_weights

OFFICIAL_FILES: dict[str, dict[str, str]] = {
    "1.0": {"keyframe": "kandinsky_video", "interpolation": "kandinsky_video_interpolation", "movq": "movq"},
    "1.1": {
        "keyframe": "t2v",
        "interpolation": "interpolation",
        "movq": "video_movq",
        "image_movq": "movq",
        "projections": "t5_projections",
    },
}
"""Version → what a file is for → its name without the suffix."""

PRESETS = {"1.0": KANDINSKY_VIDEO_1_0, "1.1": KANDINSKY_VIDEO_1_1}
REPOSITORIES = {"1.0": "ai-forever/KandinskyVideo", "1.1": "ai-forever/KandinskyVideo_1_1"}
TEXT_REPOSITORY, TEXT_FOLDERS = "google/flan-ul2", ("text_encoder", "flan-ul2")
CONFIGS_FILE, OWN_SECTION = "configs.json", "fusionframes"
_CLASSES = {"keyframe": "UNet", "interpolation": "InterpolationUNet", "movq": "MoVQ", "image_movq": "MoVQ"}
_SECTIONS = {"keyframe": "t2v", "interpolation": "interpolation"}  # of configs.json, for the U-Nets


@dataclass(frozen=True)
class OfficialModel:
    """An official folder whose every file has been looked at, and nothing loaded."""

    version: str
    config: ModelConfig
    files: Mapping[str, tuple[WeightsFile, Identity]]
    text_folder: Path
    text_sources: Sources

    def load(self, name: str, dtype: torch.dtype, device: torch.device | str, text: TextOptions) -> nn.Module:
        """One of `checkpoints.part_names`, in evaluation mode."""
        kept = part_dtype(name, dtype)
        if name == "text_encoder":
            tokenizer = read_tokenizer(self.text_folder)
            return load_text_encoder(self.config.text, tokenizer, self.text_sources, device, kept, text)
        file, identity = self.files[name]
        return load_network(getattr(self.config, name), [(file, identity.names)], kept, device)


def official_version(folder: Path) -> str | None:
    """The version whose files a folder has, by the keyframe U-Net's; None: not an official folder."""
    found = [version for version, files in OFFICIAL_FILES.items() if find_file(folder, files["keyframe"])]
    return found[0] if found else None


def find_file(folder: Path, stem: str) -> Path | None:
    """The weights file of that name, whatever its suffix."""
    for place in (folder, folder / "weights"):
        for suffix in (*SAFETENSORS, *PICKLED):
            if (place / f"{stem}{suffix}").is_file():
                return place / f"{stem}{suffix}"
    return None


def open_official(folder: Path, text_encoder: str | Path | None = None) -> OfficialModel:
    """Look at every file of an official folder. Raises CheckpointError that names the first that is missing or wrong.

    `text_encoder` is the folder of Flan-UL2; None: one of TEXT_FOLDERS inside `folder`.
    """
    version = official_version(folder)
    if version is None:
        raise CheckpointError(f"{folder} holds no official files: neither kandinsky_video.pt nor t2v.pt")
    files = {name: _open(folder, version, name) for name in OFFICIAL_FILES[version]}
    configs = read_configs(folder)
    text_folder = _text_folder(folder, text_encoder)
    t5 = open_t5(text_folder)
    config = _config(version, files, configs, t5, text_folder)
    return OfficialModel(version, config, files, text_folder, _text_sources(config.text, files, t5))


def require_files(folder: Path) -> None:
    """Raise CheckpointError that names the first official file that a folder lacks, without opening any."""
    version = official_version(folder)
    for stem in OFFICIAL_FILES.get(version or "", {}).values():
        if find_file(folder, stem) is None:
            raise _missing(folder, str(version), stem)


def _missing(folder: Path, version: str, stem: str) -> CheckpointError:
    where = f"https://huggingface.co/{REPOSITORIES[version]}"
    return CheckpointError(f"no {stem}.pt in {folder}: KandinskyVideo {version} needs it; it can be had at {where}")


def _open(folder: Path, version: str, name: str) -> tuple[WeightsFile, Identity]:
    stem = OFFICIAL_FILES[version][name]
    path = find_file(folder, stem)
    if path is None:
        raise _missing(folder, version, stem)
    file = open_weights(path)
    identity = identify(file.shapes)
    if name == "projections" and identity.kind != "projections":
        raise CheckpointError(f"{path} is {identity.phrase}, but the text projections of 1.1 were expected")
    require_kind(_CLASSES.get(name, ""), file, identity)
    if name in _SECTIONS and identity.version not in (None, version):  # autoencoders are alike in both
        raise CheckpointError(f"{path} is {identity.phrase}, but one of KandinskyVideo {version} was expected")
    return file, identity


def read_configs(folder: Path) -> dict[str, Any]:
    """What `configs.json` of an official folder says; {} without one. Raises CheckpointError when it is no object."""
    path = folder / CONFIGS_FILE
    if not path.is_file():
        return {}
    with one_sentence(f"{path} is not the configuration of official files"):
        content = json.loads(path.read_text("utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it must be a JSON object")
        return content


def hints_of(configs: Mapping[str, Any], name: str) -> Hints:
    """What configs.json says of what shapes do not tell; its U-Nets' arguments lie in `configs`, or bare."""
    given = configs.get(_SECTIONS.get(name, ""), {})
    given = given.get("configs", given)
    return Hints(**{name: int(given[name]) for name in ("head_dim", "groups") if name in given})


def _config(
    version: str,
    files: Mapping[str, tuple[WeightsFile, Identity]],
    configs: dict[str, Any],
    t5: tuple[list[WeightsFile], Identity],
    text_folder: Path,
) -> ModelConfig:
    if OWN_SECTION in configs:
        with one_sentence(f"{CONFIGS_FILE} is not the configuration of a model"):
            return from_dict(ModelConfig, configs[OWN_SECTION])
    shapes = {name: shapes_of([file], identity.names) for name, (file, identity) in files.items()}
    with one_sentence(f"the official files of {version} have an unknown architecture"):
        preset = PRESETS[version]
        text_shapes = shapes_of(t5[0], t5[1].names) | _text_shapes(files)
        changes: dict[str, Any] = {
            "keyframe": unet_config(shapes["keyframe"], version, hints_of(configs, "keyframe")),
            "interpolation": interpolation_config(shapes["interpolation"], version, hints_of(configs, "interpolation")),
            "movq": movq_config(shapes["movq"], version if version == "1.1" else None),
            "text": text_config(
                text_shapes,
                feed_forward_of(text_folder),
                int(configs.get("text_encoder", {}).get("tokens_length", preset.text.max_tokens)),
                preset.text,
            ),
        }
        if "image_movq" in files:
            changes["image_movq"] = movq_config(shapes["image_movq"])
        return replace(preset, **changes)


def shapes_of(files: list[WeightsFile], names: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    """Shapes under our names."""
    found = {theirs: entry.shape for file in files for theirs, entry in file.entries.items()}
    return {ours: found[theirs] for ours, theirs in names.items()}


def _text_shapes(files: Mapping[str, tuple[WeightsFile, Identity]]) -> dict[str, tuple[int, ...]]:
    return {
        ours: file.entries[theirs].shape for file, identity in files.values() for ours, theirs in identity.text.items()
    }


def _text_folder(folder: Path, text_encoder: str | Path | None) -> Path:
    places = [Path(text_encoder)] if text_encoder is not None else [folder / name for name in TEXT_FOLDERS]
    for place in places:
        if place.is_dir():
            return place
    raise CheckpointError(
        f"no text encoder at {places[0]}: it must be a folder with {TEXT_REPOSITORY} (its encoder's weights, "
        f"config.json and tokenizer.json), which can be had at https://huggingface.co/{TEXT_REPOSITORY}"
    )


def open_t5(folder: Path) -> tuple[list[WeightsFile], Identity]:
    """T5's files (often several) as one model. Raises CheckpointError when the folder holds none."""
    paths = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not paths:
        raise CheckpointError(f"no weights in {folder}: neither *.safetensors nor pytorch_model*.bin")
    files = [open_weights(path) for path in paths]
    identity = identify({name: shape for file in files for name, shape in file.shapes.items()})
    if identity.kind != "t5":
        raise CheckpointError(f"{folder} holds {identity.phrase}, but a T5 text encoder (Flan-UL2) was expected")
    return files, identity


def feed_forward_of(folder: Path) -> str | None:
    """What T5's own config.json calls its feed-forward."""
    path = folder / "config.json"
    return json.loads(path.read_text("utf-8")).get("feed_forward_proj") if path.is_file() else None


def _text_sources(
    config: TextEncoderConfig,
    files: Mapping[str, tuple[WeightsFile, Identity]],
    t5: tuple[list[WeightsFile], Identity],
) -> Sources:
    """Where each tensor of the text encoder lies; what the config has no place for is left."""
    sources: list[tuple[WeightsFile, Mapping[str, str]]] = [
        (file, {ours: theirs for ours, theirs in t5[1].names.items() if theirs in file.entries}) for file in t5[0]
    ]
    for file, identity in files.values():
        own = config.interpolation_head != "shared"
        sources.append((file, {o: t for o, t in identity.text.items() if own or not o.startswith("interpolation.")}))
    return sources
