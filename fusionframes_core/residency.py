"""Where the models of a pipeline are, and when: all in place, or only the one whose stage is running."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .checkpoints import (
    BUNDLED,
    CONFIG_FILE,
    TOKENIZER_FILE,
    CheckpointError,
    ModelParts,
    load_config,
    load_part,
    part_dtype,
    part_names,
    read_tokenizer,
)
from .config import ModelConfig
from .loading import names_for
from .models.text_encoder import TextEncoder
from .official import OFFICIAL_FILES, official_version, open_official
from .text_loading import TextOptions, load_text_encoder
from .weights_file import open_weights

OFFLOADS = ("none", "cpu", "disk")
Loader = Callable[[], nn.Module]


@dataclass(frozen=True)
class ModelSource:
    """A model on the disk: its configuration and a loader of each part; nothing is loaded yet."""

    config: ModelConfig
    loaders: Mapping[str, Loader]


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
) -> ModelSource:
    """Look at "tiny", a model folder, or a folder of official files. Raises CheckpointError as their readers do.

    `text_encoder` is the folder of Flan-UL2 for official files, `text_mode` one of `text_loading.MODES`.
    """
    folder, options = _folder(name_or_folder), TextOptions(text_mode)
    if not (folder / CONFIG_FILE).is_file():
        official = open_official(folder, text_encoder)
        config = official.config

        def load(name: str) -> nn.Module:
            return official.load(name, dtype, device, options)
    else:
        config = load_config(folder)

        def load(name: str) -> nn.Module:
            if name == "text_encoder" and options.mode != "full":
                return _own_text_encoder(folder, config, part_dtype(name, dtype), device, options)
            return load_part(folder, config, name, dtype, device)

    return ModelSource(config, {name: _loader(load, name) for name in part_names(config)})


def _loader(load: Callable[[str], nn.Module], name: str) -> Loader:
    return lambda: load(name)


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


class Residency:
    """The models of a pipeline by name.

    `offload`: "none" keeps every model on the device; "cpu" brings each there for its stage and takes it back to main
    memory; "disk" loads it for its stage and forgets it, so that no more than one is in memory.
    """

    def __init__(
        self, config: ModelConfig, loaders: Mapping[str, Loader], device: torch.device | str, offload: str
    ) -> None:
        if offload not in OFFLOADS:
            raise ValueError(f"offload must be one of {', '.join(OFFLOADS)}; got {offload!r}")
        self.config, self.offload, self._device = config, offload, torch.device(device)
        self._loaders = dict(loaders)
        self._models: dict[str, nn.Module] = {}
        if offload == "none":
            for name in self._loaders:
                self.model(name)

    @classmethod
    def of_parts(cls, parts: ModelParts) -> Residency:
        """Models that are in memory already and stay where they are."""
        device = next(parts.keyframe.parameters()).device
        models = {name: getattr(parts, name) for name in part_names(parts.config)}
        return cls(parts.config, {name: _constant(model) for name, model in models.items()}, device, "none")

    @property
    def device(self) -> torch.device:
        """Where the models work."""
        keyframe = self._models.get("keyframe")
        return self._device if self.offload != "none" or keyframe is None else next(keyframe.parameters()).device

    def model(self, name: str) -> Any:
        """A model, loaded if it is not."""
        if name not in self._models:
            self._models[name] = self._loaders[name]()
        return self._models[name]

    def loaded(self) -> tuple[nn.Module, ...]:
        """The models that are in memory."""
        return tuple(self._models.values())

    def move(self, device: torch.device | str) -> None:
        """Make another device the one that models work on."""
        self._device = torch.device(device)
        if self.offload == "none":
            for model in self._models.values():
                _moved(model, self._device)

    @contextmanager
    def stage(self, name: str) -> Iterator[Any]:
        """The model on the device; afterwards it is where `offload` says."""
        if self.offload == "none":
            yield self.model(name)
            return
        try:
            yield _moved(self.model(name), self.device)
        finally:
            self._put_away(name)

    def _put_away(self, name: str) -> None:
        if self.offload == "cpu":
            _moved(self._models[name], torch.device("cpu"))
        else:
            self._models.pop(name, None)
            gc.collect()  # hooks and hosts may hold a model in cycles
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _moved(model: nn.Module, device: torch.device) -> nn.Module:
    """The model on the device; one that is streamed from the disk sees to that itself."""
    streamed = any(parameter.is_meta for parameter in model.parameters())
    return model if streamed else model.to(device)


def _constant(model: nn.Module) -> Loader:
    return lambda: model
