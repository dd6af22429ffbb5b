"""A model on the disk, looked at: what it is, and how each part of it is loaded. Nothing is loaded yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from ..config import ModelConfig
from ..errors import CheckpointError
from ..models.text_encoder import TextEncoder
from .component import load_network, part_dtype
from .lora import Lora, open_lora
from .model_folder import BUNDLED, CONFIG_FILE, TOKENIZER_FILE, load_config, load_part, part_names, read_tokenizer
from .official_folder import OFFICIAL_FILES, official_version, open_official
from .offload import Loader
from .parts import official_part, own_part
from .state_dict import names_for
from .temporal_blocks import AUTO, with_temporal
from .text_encoder_weights import TextOptions, load_text_encoder
from .weights_file import open_weights


@dataclass(frozen=True)
class ModelSource:
    """A model on the disk: its configuration, a loader of each part, what they add; nothing is loaded yet."""

    config: ModelConfig
    loaders: Mapping[str, Loader]
    loras: tuple[Lora, ...] = ()


def read_config(name_or_folder: str | Path, text_encoder: str | Path | None = None) -> ModelConfig:
    """The configuration of "tiny", a model folder or a folder of official files, without loading weights."""
    folder = _folder(name_or_folder)
    return load_config(folder) if (folder / CONFIG_FILE).is_file() else open_official(folder, text_encoder).config


def open_model(
    name_or_folder: str | Path,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    text_encoder: str | Path | None = None,
    text_mode: str = "full",
    temporal_blocks: str = AUTO,
    loras: Mapping[str | Path, float] | None = None,
) -> ModelSource:
    """Look at "tiny", a model folder, or a folder of official files. Raises ValueError, CheckpointError.

    `text_encoder` is the folder of Flan-UL2 for official files, `text_mode` one of `text_loading.MODES`,
    `temporal_blocks` one of `temporal_file.TEMPORAL_CHOICES`; `loras` are files and their strengths.
    """
    folder, options = _folder(name_or_folder), TextOptions(text_mode)
    if not (folder / CONFIG_FILE).is_file():
        official = open_official(folder, text_encoder)
        config, load = official.config, partial(official.load, text=options)
        open_keyframe = partial(official_part, official, folder, "keyframe")
    else:
        config = load_config(folder)
        load, open_keyframe = partial(_load_own, folder, config, options), partial(own_part, folder, config, "keyframe")
    loaders: dict[str, Loader] = {name: partial(load, name, dtype, device) for name in part_names(config)}
    chosen = config
    if temporal_blocks != AUTO:
        keyframe = with_temporal(open_keyframe(), temporal_blocks)
        chosen, loaders["keyframe"] = (
            keyframe.config,
            partial(load_network, keyframe.network, keyframe.sources, dtype, device),
        )
    found = tuple(open_lora(path, config, strength, chosen) for path, strength in (loras or {}).items())
    for lora in found:
        loaders[lora.part] = partial(_load_with, loaders[lora.part], lora)
    return ModelSource(chosen, loaders, found)


def _load_own(
    folder: Path, config: ModelConfig, options: TextOptions, name: str, dtype: torch.dtype, device: torch.device | str
) -> nn.Module:
    if name == "text_encoder" and options.mode != "full":
        return _own_text_encoder(folder, config, part_dtype(name, dtype), device, options)
    return load_part(folder, config, name, dtype, device)


def _load_with(load: Loader, lora: Lora) -> nn.Module:
    network = load()
    lora.add_to(network)
    return network


def _folder(name_or_folder: str | Path) -> Path:
    folder = BUNDLED.get(str(name_or_folder), Path(name_or_folder))
    if (folder / CONFIG_FILE).is_file() or official_version(folder) is not None:
        return folder
    names = " or ".join(repr(name) for name in BUNDLED)
    official = " or ".join(files["keyframe"] + ".pt" for files in OFFICIAL_FILES.values())
    raise CheckpointError(
        f"model must be {names} or a folder with a {CONFIG_FILE}; got {str(name_or_folder)!r} "
        f"(a folder of official files has {official})"
    )


def _own_text_encoder(
    folder: Path, config: ModelConfig, dtype: torch.dtype, device: torch.device | str, options: TextOptions
) -> nn.Module:
    file = open_weights(folder / "text_encoder.safetensors")
    tokenizer = read_tokenizer(folder / TOKENIZER_FILE)
    names = names_for(TextEncoder(config.text, None, device="meta"), file)
    return load_text_encoder(config.text, tokenizer, [(file, names)], device, dtype, options)
