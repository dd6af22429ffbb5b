"""Low-rank adapters (arXiv 2106.09685) on the layers of a U-Net, in files that ComfyUI's stock LoRA loader takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionframes_core.checkpoints.lora import PREFIX
from fusionframes_core.checkpoints.state_dict import save_weights
from fusionframes_core.models.layers import FastConv3d

AdaptedLayer: TypeAlias = nn.Linear | nn.Conv2d | nn.Conv3d
CONVOLUTIONS: dict[type, Any] = {nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}


class Adapter(nn.Module):
    """ΔW = B·A of one layer: A (rank, inputs, ...) draws, B (outputs, rank, 1, ...) starts at zero."""

    lora_A: nn.Parameter
    lora_B: nn.Parameter

    def __init__(self, layer: AdaptedLayer, rank: int) -> None:
        super().__init__()
        weight = layer.weight
        ones = [1] * (weight.ndim - 2)
        self.lora_A = nn.Parameter(torch.empty(rank, *weight.shape[1:]))
        self.lora_B = nn.Parameter(torch.zeros(weight.shape[0], rank, *ones))
        nn.init.kaiming_uniform_(self.lora_A, a=5**0.5)
        self.layer = (layer,)  # in a tuple: the layer is no part of the adapter

    def forward(self, x: Tensor) -> Tensor:
        """What the adapter adds to its layer's output for the layer's input."""
        (layer,) = self.layer
        if isinstance(layer, nn.Linear):
            return F.linear(F.linear(x, self.lora_A), self.lora_B)
        if isinstance(layer, FastConv3d):
            return layer._conv_forward(x, self.delta(), None)
        convolve = CONVOLUTIONS[nn.Conv3d if isinstance(layer, nn.Conv3d) else nn.Conv2d]
        return convolve(convolve(x, self.lora_A, None, layer.stride, layer.padding), self.lora_B)

    def delta(self) -> Tensor:
        """ΔW, of the layer's weight's shape."""
        return (self.lora_B.flatten(1) @ self.lora_A.flatten(1)).reshape(self.layer[0].weight.shape)


class LoraModel(nn.Module):
    """A frozen U-Net whose chosen layers have adapters; only those train."""

    def __init__(self, unet: nn.Module, rank: int, targets: Sequence[str]) -> None:
        """`targets`: endings of module names. Raises ValueError when one names no layer."""
        super().__init__()
        self.unet = unet.requires_grad_(False)
        layers = chosen_layers(unet, targets)
        self.names = list(layers)
        self.adapters = nn.ModuleList(Adapter(layer, rank) for layer in layers.values())
        for layer, adapter in zip(layers.values(), self.adapters, strict=True):
            layer.register_forward_hook(lambda _, inputs, out, adapter=adapter: out + adapter(inputs[0]))

    def forward(self, *arguments: Any) -> Tensor:
        """The U-Net's own arguments and result."""
        return self.unet(*arguments)

    def tensors(self) -> dict[str, Tensor]:
        """The adapters under the names that ComfyUI's loader knows; it scales their product by its strength alone."""
        tensors: dict[str, Tensor] = {}
        for name, adapter in zip(self.names, self.adapters, strict=True):
            assert isinstance(adapter, Adapter)
            tensors[f"{PREFIX}{name}.lora_A.weight"] = adapter.lora_A
            tensors[f"{PREFIX}{name}.lora_B.weight"] = adapter.lora_B
        return tensors


def chosen_layers(unet: nn.Module, targets: Sequence[str]) -> dict[str, AdaptedLayer]:
    """Linear and convolution layers whose dotted name ends in one of `targets`, by name. Raises ValueError."""
    layers = {name: module for name, module in unet.named_modules() if isinstance(module, AdaptedLayer)}
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
