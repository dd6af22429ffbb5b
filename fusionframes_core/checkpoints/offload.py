"""Where the models of a pipeline are, and when: all in place, or only the one whose stage is running."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn

from ..config import ModelConfig
from ..models.compiled import check_compile, compile_network, forget_graphs
from ..models.layout import channels_last
from ..models.text_encoder import TextEncoder
from .component import UNETS, ModelParts, StoredModel, component_names
from .streamed_layers import StreamedLayers

OFFLOADS = ("none", "cpu", "disk", "layers")
Loader = Callable[[], nn.Module]
AnyModels = TypeVar("AnyModels", bound="Models")


class OffloadedModels:
    """The models of a pipeline by name.

    `offload`: "none" keeps every model on the device; "cpu" brings each there for its stage and takes it back to main
    memory; "disk" loads it for its stage and forgets it, so that no more than one is in memory; "layers" is as "cpu",
    but a U-Net's blocks come one by one while it works (see `streamed_layers`). `compile` is how U-Nets run (see
    `models.compiled`).
    """

    def __init__(
        self,
        config: ModelConfig,
        loaders: Mapping[str, Loader],
        device: torch.device | str,
        offload: str,
        compile: str = "none",
    ) -> None:
        if offload not in OFFLOADS:
            raise ValueError(f"offload must be one of {', '.join(OFFLOADS)}; got {offload!r}")
        check_compile(compile, torch.device(device), offload)
        self.config, self.offload, self.compile, self._device = config, offload, compile, torch.device(device)
        self._loaders = dict(loaders)
        self._models: dict[str, nn.Module] = {}
        self._streams: dict[str, StreamedLayers] = {}
        if offload == "none":
            for name in self._loaders:
                self.model(name)

    @classmethod
    def of_model(
        cls, model: StoredModel, dtype: torch.dtype, device: torch.device | str, offload: str, compile: str = "none"
    ) -> OffloadedModels:
        """The components of a model on the disk, which are loaded in `dtype` as `offload` says."""
        place = "cpu" if offload == "layers" else device  # a whole U-Net may not fit there
        loaders = {name: partial(component.load, dtype, place) for name, component in model.components.items()}
        return cls(model.config, loaders, device, offload, compile)

    @classmethod
    def of_parts(cls, parts: ModelParts) -> OffloadedModels:
        """Models that are in memory already and stay where they are."""
        device = next(parts.keyframe.parameters()).device
        models = {name: getattr(parts, name) for name in component_names(parts.config)}
        return cls(parts.config, {name: _constant(model) for name, model in models.items()}, device, "none")

    @property
    def device(self) -> torch.device:
        """Where the models work."""
        keyframe = self._models.get("keyframe")
        return self._device if self.offload != "none" or keyframe is None else next(keyframe.parameters()).device

    def model(self, name: str) -> Any:
        """A model, loaded if it is not."""
        if name not in self._models:
            loaded = self._loaders[name]()
            self._models[name] = compile_network(loaded, self.compile) if name in UNETS else loaded
        return self._models[name]

    def loaded(self) -> tuple[nn.Module, ...]:
        """The models that are in memory."""
        return tuple(self._models.values())

    def move(self, device: torch.device | str) -> None:
        """Make another device the one that models work on."""
        self._device = torch.device(device)
        self._streams.clear()
        if self.offload == "none":
            for model in self._models.values():
                _moved(model, self._device)

    @contextmanager
    def stage(self, name: str) -> Iterator[Any]:
        """The model on the device; afterwards it is where `offload` says."""
        if self.offload == "none":
            try:
                yield self.model(name)
            finally:
                forget_graphs(self.model(name))
            return
        streamed = self.offload == "layers" and name in UNETS
        try:
            yield self._stream(name).open() if streamed else _moved(self.model(name), self.device)
        finally:
            self._put_away(name)

    def _stream(self, name: str) -> StreamedLayers:
        if name not in self._streams:
            self._streams[name] = StreamedLayers(_laid_out(self.model(name), self.device), self.device)
        return self._streams[name]

    def _put_away(self, name: str) -> None:
        if name in self._models:
            forget_graphs(self._models[name])
        if name in self._streams:
            self._streams[name].close()
        elif name in self._models and self.offload in ("cpu", "layers"):
            _moved(self._models[name], torch.device("cpu"))
        else:
            self._models.pop(name, None)
            gc.collect()  # hooks and hosts may hold a model in cycles
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _moved(model: nn.Module, device: torch.device) -> nn.Module:
    """The model on the device; one that is streamed from the disk sees to that itself."""
    if not any(parameter.is_meta for parameter in model.parameters()):
        model.to(device)
        for module in model.modules():
            _move_quantised(module, device)
    return _laid_out(model, device)


def _move_quantised(module: nn.Module, device: torch.device) -> None:
    """Let the weights of bitsandbytes' 8-bit layers follow, which lie in a `state` from a layer's first call on.

    `to` of a whole model does not see them: they would stay on the GPU beside a U-Net.
    """
    state: Any = getattr(module, "state", None)
    if getattr(state, "CB", None) is not None:
        state.CB, state.SCB = state.CB.to(device), state.SCB.to(device)
        module.get_parameter("weight").data = state.CB  # the same memory, as the layer itself has it


def _laid_out(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with its kernels as the device convolves them, whatever they were loaded for."""
    return channels_last(model) if device.type == "cuda" else model


def _constant(model: nn.Module) -> Loader:
    return lambda: model


class Models:
    """The models of a `residency` by their names, for whoever works with them."""

    def __init__(self, residency: OffloadedModels) -> None:
        self.residency = residency
        self.config: ModelConfig = residency.config

    @property
    def parts(self) -> ModelParts:
        """All models, each loaded if it is not."""
        return ModelParts(self.config, **{name: self.residency.model(name) for name in component_names(self.config)})

    @property
    def text_encoder(self) -> TextEncoder:
        """The text encoder, loaded if it is not."""
        return self.residency.model("text_encoder")

    @property
    def keyframe(self) -> Any:
        """The keyframe U-Net, loaded if it is not."""
        return self.residency.model("keyframe")

    @property
    def interpolation(self) -> Any:
        """The interpolation U-Net, loaded if it is not."""
        return self.residency.model("interpolation")

    @property
    def movq(self) -> Any:
        """The autoencoder of videos, loaded if it is not."""
        return self.residency.model("movq")

    @property
    def models(self) -> tuple[nn.Module, ...]:
        """The models that are in memory."""
        return self.residency.loaded()

    @property
    def device(self) -> torch.device:
        """Where the models work."""
        return self.residency.device

    @property
    def num_bytes(self) -> int:
        """Memory of all weights that are loaded."""
        return sum(tensor.nbytes for model in self.models for tensor in model.state_dict().values())

    def to(self: AnyModels, device: torch.device | str) -> AnyModels:
        """Move every model; returns self."""
        self.residency.move(device)
        return self
