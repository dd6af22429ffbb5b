"""One network of a model on the disk: where its tensors lie and what they make, with nothing loaded.

A file may lie in a model folder of ours, in a folder of official files, or alone; it may have our names or official
ones. Whoever loads it (ComfyUI's nodes do) asks for `sources`, which `loading` reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..config import InterpolationConfig, ModelConfig, MoVQConfig, TextEncoderConfig, UNetConfig, from_dict
from ..errors import CheckpointError, one_sentence
from .architecture import interpolation_config, movq_config, text_config, unet_config
from .identify import Identity, identify
from .model_folder import CONFIG_FILE, TOKENIZER_FILE, load_config
from .official_folder import (
    CONFIGS_FILE,
    OFFICIAL_FILES,
    OWN_SECTION,
    PRESETS,
    REPOSITORIES,
    OfficialModel,
    feed_forward_of,
    hints_of,
    open_t5,
    read_configs,
    shapes_of,
)
from .state_dict import Sources
from .weights_file import WeightsFile, open_weights

_KINDS = {"keyframe": "keyframe", "image": "keyframe", "interpolation": "interpolation", "movq": "movq"}
_READERS: dict[str, Any] = {"keyframe": unet_config, "interpolation": interpolation_config, "movq": movq_config}
_CONFIGS: dict[str, type] = {"keyframe": UNetConfig, "interpolation": InterpolationConfig, "movq": MoVQConfig}


@dataclass(frozen=True)
class Part:
    """A U-Net or an autoencoder. `kind` is the field of `config` that describes it; `text` holds null embeddings."""

    kind: str
    config: ModelConfig
    sources: Sources
    text: Sources
    folder: Path

    @property
    def network(self) -> Any:
        """The configuration of the network itself."""
        return getattr(self.config, self.kind)


@dataclass(frozen=True)
class TextPart:
    """A text encoder with the projection to the U-Nets' context."""

    config: TextEncoderConfig
    sources: Sources
    tokenizer: Path


def open_part(path: str | Path) -> Part:
    """The U-Net or autoencoder in a file. Raises CheckpointError when it is none, or nothing says what sizes it has."""
    path = Path(path)
    file = open_weights(path)
    identity = identify(file.shapes)
    if identity.kind not in _KINDS:
        raise CheckpointError(f"{path} is {identity.phrase}, but a U-Net or MoVQ of a FusionFrames model was expected")
    kind, names = _KINDS[identity.kind], identity.names
    if (path.parent / CONFIG_FILE).is_file() and not identity.official:
        config, text = load_config(path.parent), own_text(path.parent)
        if identity.kind == "image":
            config = replace(config, keyframe=replace(config.keyframe, temporal="none"))
        return Part(kind, config, [(file, names)], text, path.parent)
    config = _lone_config(file, identity, kind)
    return Part(kind, config, [(file, names)], [(file, identity.text)], path.parent)


def own_part(folder: Path, config: ModelConfig, kind: str) -> Part:
    """A part of a model folder of ours. Raises CheckpointError when its file is missing or cut short."""
    file = open_weights(folder / f"{kind}.safetensors")
    text = own_text(folder) if kind in ("keyframe", "interpolation") else []
    return Part(kind, config, [(file, identify(file.shapes).names)], text, folder)


def own_text(folder: Path) -> Sources:
    """The text encoder's file of a model folder of ours, where the null embeddings are."""
    file = open_weights(folder / "text_encoder.safetensors")
    return [(file, {name: name for name in file.entries})]


def official_part(model: OfficialModel, folder: Path, kind: str) -> Part:
    """A part of an official folder that `open_official` has looked at."""
    file, identity = model.files[kind]
    return Part(kind, model.config, [(file, identity.names)], [(file, identity.text)], folder)


def own_text_part(folder: Path) -> TextPart:
    """The text encoder of a model folder of ours."""
    return TextPart(load_config(folder).text, own_text(folder), folder / TOKENIZER_FILE)


def open_text_part(folder: Path, projection: Path) -> TextPart:
    """T5 (Flan-UL2) in a folder, with the projection that an official file holds. Raises CheckpointError."""
    t5_files, t5 = open_t5(folder)
    file = open_weights(projection)
    identity = identify(file.shapes)
    if "projection.weight" not in identity.text:
        raise CheckpointError(
            f"{projection} is {identity.phrase} without a text projection: take t5_projections.pt of KandinskyVideo "
            "1.1, or kandinsky_video.pt of 1.0"
        )
    configs = read_configs(projection.parent)
    sources: Sources = [
        *((part, {ours: name for ours, name in t5.names.items() if name in part.entries}) for part in t5_files),
        (file, identity.text),
    ]
    if OWN_SECTION in configs:
        return TextPart(_own_config(configs).text, sources, folder)
    preset = PRESETS[identity.version or file.metadata.get("version", "1.1")].text
    shapes = shapes_of(t5_files, t5.names) | shapes_of([file], identity.text)
    with one_sentence(f"{folder} and {projection} have an unknown architecture"):
        tokens = int(configs.get("text_encoder", {}).get("tokens_length", preset.max_tokens))
        return TextPart(text_config(shapes, feed_forward_of(folder), tokens, preset), sources, folder)


def download_hint(file_name: str) -> str:
    """Where a file of an official name can be had, as the end of a sentence; "" for any other name."""
    stem = Path(file_name).stem
    found = [version for version, files in OFFICIAL_FILES.items() if stem in files.values()]
    places = " or ".join(f"https://huggingface.co/{REPOSITORIES[version]}" for version in found)
    return f"; it can be had at {places}" if found else ""


def _own_config(configs: Mapping[str, Any]) -> ModelConfig:
    with one_sentence(f"{CONFIGS_FILE} is not the configuration of a model"):
        return from_dict(ModelConfig, configs[OWN_SECTION])


def _lone_config(file: WeightsFile, identity: Identity, kind: str) -> ModelConfig:
    """The preset of the file's version, with the sizes that the file shows or says."""
    configs = read_configs(file.path.parent)
    if OWN_SECTION in configs:
        return _own_config(configs)
    version = identity.version or file.metadata.get("version") or ("1.0" if kind == "movq" else None)
    if version not in PRESETS:
        raise CheckpointError(f"{file.path} says no sizes: put the {CONFIG_FILE} of its model folder beside it")
    with one_sentence(f"{file.path} has an unknown architecture"):
        if "config" in file.metadata:
            network: Any = from_dict(_CONFIGS[kind], json.loads(file.metadata["config"]))
        else:
            network = _READERS[kind](shapes_of([file], identity.names), identity.version, hints_of(configs, kind))
        return replace(PRESETS[version], **{kind: network})
