"""Low-rank adapters (arXiv 2106.09685) on the layers of a U-Net, in files that ComfyUI's stock LoRA loader takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionframes_core.checkpoints.lora_names import PREFIX
from fusionframes_core.checkpoints.state_dict import save_weights
from fusionframes_core.models.casting import compute_dtype
from fusionframes_core.models.layers import FastConv3d
from fusionframes_core.models.temporal import temporal_parts

AdaptedLayer: TypeAlias = nn.Linear | nn.Conv2d | nn.Conv3d
IN_BASE_TYPE = ("context", "keyframes")
"""What of a condition computes in the base's type; numbers are embedded from 32 bits."""
CONVOLUTIONS: dict[type, Any] = {nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}


@dataclass(frozen=True)
class AdapterSettings:
    """`rank` of B·A, which counts alpha / rank times (`alpha` None: once); `dropout` of the layers' inputs.

    Raises ValueError for numbers out of range.
    """

    rank: int
    alpha: float | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1; got {self.rank}")
        if self.alpha is not None and not 0 < self.alpha < math.inf:
            raise ValueError(f"alpha must be greater than 0 and finite; got {self.alpha}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and less than 1; got {self.dropout}")

    @property
    def scale(self) -> float:
        """How often B·A counts."""
        return 1.0 if self.alpha is None else self.alpha / self.rank


class Adapter(nn.Module):
    """ΔW = scale · B·A of one layer: A (rank, inputs, ...) draws, B (outputs, rank, 1, ...) starts at zero.

    Its parameters are in 32 bits and compute in the type of the layer's input.
    """

    lora_A: nn.Parameter
    lora_B: nn.Parameter

    def __init__(self, layer: AdaptedLayer, settings: AdapterSettings) -> None:
        super().__init__()
        weight, rank = layer.weight, settings.rank
        self.settings, self.seed = settings, 0  # the seed of this forward's dropout
        ones = [1] * (weight.ndim - 2)
        self.lora_A = nn.Parameter(torch.empty(rank, *weight.shape[1:]))
        self.lora_B = nn.Parameter(torch.zeros(weight.shape[0], rank, *ones))
        nn.init.kaiming_uniform_(self.lora_A, a=5**0.5)
        self.layer = (layer,)  # in a tuple: the layer is no part of the adapter

    def forward(self, x: Tensor) -> Tensor:
        """What the adapter adds to its layer's output for the layer's input."""
        (layer,) = self.layer
        if self.training and self.settings.dropout:
            x = self._dropped(x)
        down, up = self.lora_A.to(x.dtype), self.scaled().to(x.dtype)
        if isinstance(layer, nn.Linear):
            return F.linear(F.linear(x, down), up)
        if isinstance(layer, FastConv3d):
            return layer._conv_forward(x, (up.flatten(1) @ down.flatten(1)).reshape(layer.weight.shape), None)
        convolve = CONVOLUTIONS[nn.Conv3d if isinstance(layer, nn.Conv3d) else nn.Conv2d]
        return convolve(convolve(x, down, None, layer.stride, layer.padding), up)

    def scaled(self) -> Tensor:
        """B as it counts."""
        return self.lora_B if self.settings.scale == 1 else self.lora_B * self.settings.scale

    def _dropped(self, x: Tensor) -> Tensor:
        """The same numbers when a block is computed again: drawn from the forward's seed, not torch's stream."""
        share = 1 - self.settings.dropout
        generator = None if x.is_meta else torch.Generator(x.device).manual_seed(self.seed)
        kept = torch.empty(x.shape, dtype=x.dtype, device=x.device).bernoulli_(share, generator=generator)
        return x * kept / share


class LoraModel(nn.Module):
    """A frozen U-Net whose chosen layers have adapters; only those train."""

    def __init__(self, unet: nn.Module, settings: AdapterSettings, layers: Mapping[str, AdaptedLayer]) -> None:
        """`layers`: by `chosen_layers`."""
        super().__init__()
        self.unet, self.settings = unet.requires_grad_(False), settings
        self.names = list(layers)
        self.adapters = nn.ModuleList(Adapter(layer, settings) for layer in layers.values())
        for layer, adapter in zip(layers.values(), self.adapters, strict=True):
            assert isinstance(adapter, Adapter)
            layer.register_forward_hook(partial(_with_adapter, adapter))
        # DDP would send the base's packed weights from the first process to the others in every step.
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]

    @property
    def base(self) -> Any:
        """What an interpolation U-Net's output is added to, which sampling asks for."""
        return self.unet.base

    def forward(self, x: Tensor, t: Tensor, condition: Any) -> Tensor:
        """The U-Net's own arguments and result, which is in the type of `x`; a base in 16 bits computes in those."""
        dtype = compute_dtype(self.unet)
        still = getattr(condition, "image", False)  # which comes after its clip, before the backward pass of both
        if self.training and self.settings.dropout and not still:
            seeds = torch.randint(2**31, (len(self.adapters),)).tolist()
            for adapter, seed in zip(self.adapters, seeds, strict=True):
                adapter.seed = seed
        if dtype == torch.float32:
            return self.unet(x, t, condition)
        names = [name for name in IN_BASE_TYPE if hasattr(condition, name)]
        condition = replace(condition, **{name: getattr(condition, name).to(dtype) for name in names})
        return self.unet(x.to(dtype), t, condition).to(x.dtype)

    def tensors(self) -> dict[str, Tensor]:
        """The adapters under the names that ComfyUI's loader knows; it scales their product by its strength alone."""
        tensors: dict[str, Tensor] = {}
        for name, adapter in zip(self.names, self.adapters, strict=True):
            assert isinstance(adapter, Adapter)
            tensors[f"{PREFIX}{name}.lora_A.weight"] = adapter.lora_A
            tensors[f"{PREFIX}{name}.lora_B.weight"] = adapter.scaled()
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Start from the adapters of a file. Raises ValueError, which names a tensor, for those of other layers or
        another rank."""
        own = self.tensors()
        for name in sorted(own.keys() ^ tensors.keys()):
            raise ValueError(f"{name} is {'missing' if name in own else 'not among the chosen layers'}")
        for name, target in own.items():
            if tensors[name].shape != target.shape:
                raise ValueError(f"{name} is {tuple(tensors[name].shape)}, not {tuple(target.shape)}: of another rank?")
        with torch.no_grad():
            for name, adapter in zip(self.names, self.adapters, strict=True):
                assert isinstance(adapter, Adapter)
                adapter.lora_A.copy_(tensors[f"{PREFIX}{name}.lora_A.weight"])
                adapter.lora_B.copy_(tensors[f"{PREFIX}{name}.lora_B.weight"] / self.settings.scale)


def _with_adapter(adapter: Adapter, layer: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
    """What a layer gives, and its adapter beside it; a plain function, so that a model's copy has its own adapters."""
    return out + adapter(inputs[0])


ATTENTION = ("to_query", "to_key", "to_value", "output_layer")
TEMPORAL = ("projections.0", "projections.1", "projections.2", "projections.3", "linear_down", "linear_up")


@dataclass(frozen=True)
class LayerChoice:
    """Endings of the names of layers, and whether only temporal parts have them."""

    targets: tuple[str, ...]
    temporal: bool = False


LAYERS = {
    "all": LayerChoice((*ATTENTION, "projection")),
    "attention": LayerChoice(ATTENTION),
    "temporal": LayerChoice((*ATTENTION, "projection", *TEMPORAL), temporal=True),
}
"""Which layers get adapters: attention and convolutions, attention alone, or what mixes frames alone: the motion."""


def layers_named(unet: nn.Module, name: str, targets: Sequence[str] | None = None) -> dict[str, AdaptedLayer]:
    """The layers of a choice of LAYERS, or those of it that end in `targets`, by name.

    Raises ValueError for an unknown choice, and for targets that name no layer.
    """
    if name not in LAYERS:
        raise ValueError(f"layers must be one of {', '.join(LAYERS)}; got {name!r}")
    choice = LAYERS[name]
    parts = tuple(f"{part}." for part, _ in temporal_parts(unet)) if choice.temporal else ("",)
    known = {layer: module for layer, module in adaptable(unet).items() if layer.startswith(parts)}
    if targets:
        return chosen_layers(known, targets)
    endings = [target for target in choice.targets if any(ends_with(layer, target.split(".")) for layer in known)]
    return chosen_layers(known, endings)


def adaptable(unet: nn.Module) -> dict[str, AdaptedLayer]:
    """The linear and convolution layers by name."""
    return {name: module for name, module in unet.named_modules() if isinstance(module, AdaptedLayer)}


def chosen_layers(layers: Mapping[str, AdaptedLayer], targets: Sequence[str]) -> dict[str, AdaptedLayer]:
    """The layers whose dotted name ends in one of `targets`. Raises ValueError for one that names none."""
    endings = [target.split(".") for target in targets]
    unused = [t for t, end in zip(targets, endings, strict=True) if not any(ends_with(name, end) for name in layers)]
    if unused or not targets:
        raise ValueError(f"targets must be endings of the names of layers; got {', '.join(unused) or 'none'}")
    return {name: layer for name, layer in layers.items() if any(ends_with(name, end) for end in endings)}


def ends_with(name: str, ending: list[str]) -> bool:
    """Whether these are the last components of a dotted name."""
    return name.split(".")[-len(ending) :] == ending


def save_lora(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write adapters in 32 bits."""
    save_weights(tensors, path, dtype=torch.float32, metadata=metadata)
