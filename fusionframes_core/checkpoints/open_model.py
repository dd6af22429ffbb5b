"""The one door from the disk to a network.

`open_model` looks at a whole model, `open_component` at one file, `open_text_encoder` at T5 and a projection; each
opens every file once and loads nothing. `Component.load` then makes the network. Folders may be ours or official, files
may have our names or official ones.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from ..config import ModelConfig, from_dict
from ..errors import CheckpointError, one_sentence
from .checkpoint_info import CheckpointInfo, component_of, require_kind
from .component import KINDS, Component, ComponentKind, StoredModel, component_names, kinds_of_network
from .embedded_config import MODEL_CONFIG
from .lora import Lora, open_lora
from .model_folder import CONFIG_FILE
from .official_folder import (
    OFFICIAL_FILES,
    VERSION_PRESETS,
    IdentifiedFile,
    lone_config,
    official_version,
    open_official_folder,
    open_t5,
    own_config,
    read_configs,
)
from .state_dict import load_sources
from .temporal_blocks import AUTO, with_temporal
from .text_encoder_weights import TOKENIZER_FILE, TextOptions
from .weights_file import refuse_stand_ins

BUNDLED = {"tiny": Path(__file__).parents[1] / "tiny"}
_IN_FILES = tuple(name for name, kind in KINDS.items() if kind.read_architecture and not kind.file_kind)


def model_folder(name_or_folder: str | Path) -> Path:
    """The folder of a bundled model, of a model of ours or of official files. Raises CheckpointError for another."""
    folder = BUNDLED.get(str(name_or_folder), Path(name_or_folder))
    if (folder / CONFIG_FILE).is_file() or official_version(folder) is not None:
        return folder
    names = " or ".join(repr(name) for name in BUNDLED)
    official = " or ".join(files["keyframe"] + ".pt" for files in OFFICIAL_FILES.values())
    raise CheckpointError(
        f"model must be {names} or a folder with a {CONFIG_FILE}; got {str(name_or_folder)!r} "
        f"(a folder of official files has {official})"
    )


def open_model(
    name_or_folder: str | Path,
    text_encoder: str | Path | None = None,
    text_mode: str = "full",
    temporal_blocks: str = AUTO,
    loras: Mapping[str | Path, float] | None = None,
    only: Collection[str] | None = None,
) -> StoredModel:
    """Look at "tiny", a model folder, or a folder of official files; nothing is loaded.

    `text_encoder` is the folder of Flan-UL2 for official files, `text_mode` one of `text_encoder_weights.MODES`,
    `temporal_blocks` one of `temporal_blocks.TEMPORAL_CHOICES`; `loras` are files and their strengths. Of a folder of
    ours other components than those of `only` may be missing. Raises ValueError, CheckpointError.
    """
    folder, options = model_folder(name_or_folder), TextOptions(text_mode)
    if (folder / CONFIG_FILE).is_file():
        model = open_model_folder(folder, only)
    else:
        model = open_official_folder(folder, text_encoder)
    own = model.config
    if "text_encoder" in model.components:
        model = model.with_component(replace(model.components["text_encoder"], text_options=options))
    if temporal_blocks != AUTO:
        model = model.with_component(with_temporal(model.components["keyframe"], temporal_blocks))
    for path, strength in (loras or {}).items():
        model = with_lora(model, open_lora(path, own, strength, model.config))
    return model


def with_lora(model: StoredModel, lora: Lora) -> StoredModel:
    """The same model whose U-Net takes the LoRA in when it is loaded."""
    unet = model.components[lora.part]
    return model.with_component(replace(unet, additions=(*unet.additions, lora)))


def load_config(folder: Path) -> ModelConfig:
    """The ModelConfig of a model folder. Raises CheckpointError when its config.json is none."""
    path = folder / CONFIG_FILE
    refuse_stand_ins(path)
    with one_sentence(f"{path} is not the configuration of a model"):
        return from_dict(ModelConfig, json.loads(path.read_bytes()))


def open_model_folder(folder: Path, only: Collection[str] | None = None) -> StoredModel:
    """Look at the files of a model folder, or of its components `only`.

    Raises CheckpointError that names the file that is missing or wrong.
    """
    config = load_config(folder)
    names = [name for name in component_names(config) if only is None or name in only]
    return StoredModel(config, {name: own_component(folder, config, KINDS[name]) for name in names})


def own_component(
    folder: Path, config: ModelConfig, kind: ComponentKind, found: IdentifiedFile | None = None
) -> Component:
    """A component of a model folder, in the file of its name or in the one that was `found`. Raises CheckpointError."""
    found = found or IdentifiedFile.open(folder / kind.file_name)
    if found.info.is_known:  # a model of an unknown kind is compared key by key when it is loaded
        require_kind(kind, found.file, found.info)
    text_file = folder / KINDS["text_encoder"].file_name
    return Component(
        kind,
        config,
        found.sources,
        folder,
        text=IdentifiedFile.open(text_file).sources if kind.null_embeddings and text_file.is_file() else (),
        tokenizer=folder / TOKENIZER_FILE if kind.name == "text_encoder" else None,
    )


def open_component(path: str | Path) -> Component:
    """The U-Net or autoencoder in a file. Raises CheckpointError when it is none, or nothing says what sizes it has."""
    path = Path(path)
    found = IdentifiedFile.open(path)
    file, info = found.file, found.info
    if info.kind not in _IN_FILES:
        raise CheckpointError(f"{path} is {info.phrase}, but a U-Net or MoVQ of a FusionFrames model was expected")
    kind = KINDS[component_of(info.kind)]
    if MODEL_CONFIG in file.metadata:
        with one_sentence(f"{path} holds no configuration of a model"):
            config = from_dict(ModelConfig, json.loads(file.metadata[MODEL_CONFIG]))
        return Component(kind, config, found.sources, path.parent, text=found.text)
    own = _config_beside(path, info)
    if own is not None:
        if info.kind == "image":
            own = replace(own, keyframe=replace(own.keyframe, temporal="none"))
        return own_component(path.parent, own, kind, found)
    config = lone_config(found, kind)
    return Component(kind, config, found.sources, path.parent, text=found.text if kind.null_embeddings else ())


def _config_beside(path: Path, info: CheckpointInfo) -> ModelConfig | None:
    """The configuration of the model folder that a file lies in; None where it lies in none, or is an official file.

    Some files have names of both layouts. For these another program's config.json does not count.
    """
    if not (path.parent / CONFIG_FILE).is_file() or (info.official and info.version is not None):
        return None
    try:
        return load_config(path.parent)
    except CheckpointError:
        if info.official:
            return None
        raise


def open_text_encoder(folder: Path, projection: Path | None = None) -> Component:
    """The text encoder of a folder of ours, or T5 (Flan-UL2) in a folder with the `projection` of an official file.

    Raises CheckpointError.
    """
    if projection is None:
        return own_component(folder, load_config(folder), KINDS["text_encoder"])
    t5 = open_t5(folder)
    found = IdentifiedFile.open(projection)
    file, info = found.file, found.info
    if "projection.weight" not in info.text:
        raise CheckpointError(
            f"{projection} is {info.phrase} without a text projection: take t5_projections.pt of KandinskyVideo "
            "1.1, or kandinsky_video.pt of 1.0"
        )
    text = found.text
    configs = read_configs(projection.parent)
    config = own_config(configs)
    if config is None:
        preset = VERSION_PRESETS[info.version or file.metadata.get("version", "1.1")]
        with one_sentence(f"{folder} and {projection} have an unknown architecture"):
            config = replace(preset, text=t5.config(text, configs, preset.text))
    return Component(KINDS["text_encoder"], config, [*t5.sources, *text], folder, tokenizer=folder)


def load_weights(
    network: nn.Module,
    path: str | Path,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Load a file of our or of official names (safetensors, or a PyTorch file of tensors) into `network`, strictly.

    A network on the meta device takes the file's tensors as they are mapped (in `dtype`, on `device`, if given); any
    other keeps its own types and devices and copies. Raises CheckpointError that names every missing, unexpected and
    mis-shaped key, or that the file holds another kind of component; the network is unchanged then.
    """
    found = IdentifiedFile.open(Path(path))
    for kind in kinds_of_network(network)[:1]:
        require_kind(kind, found.file, found.info, set(network.state_dict()))
    load_sources(network, found.sources, device, dtype)
