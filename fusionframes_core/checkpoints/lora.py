"""Low-rank adapters (arXiv 2106.09685) from files that ComfyUI's stock LoRA loader takes, added to a U-Net's weights.

A file holds `diffusion_model.<layer>.lora_A.weight` (rank, inputs, ...) and `.lora_B.weight` (outputs, rank, ...) for
every layer that changes, by W + strength · B·A.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from ..errors import CheckpointError
from ..models.casting import FP8, FP8_LARGEST
from .component import UNETS, build
from .weights_file import WeightsFile, open_weights

PREFIX = "diffusion_model."  # what ComfyUI calls the U-Net of a MODEL
_ENDS = {letter: f".lora_{letter}.weight" for letter in "AB"}
_MAX_STRENGTH = 100.0  # as in ComfyUI's loader


@dataclass(frozen=True)
class Lora:
    """A file that was looked at: the U-Net it belongs to, which of its tensors fit that, and how much is added."""

    file: WeightsFile
    part: str
    names: tuple[str, ...]
    strength: float

    def add_to(self, unet: nn.Module) -> None:
        """W + strength · B·A for each of its layers."""
        add_lora(unet, self.file.tensors(self.names), self.strength)


def open_lora(path: str | Path, own: ModelConfig, strength: float = 1.0, chosen: ModelConfig | None = None) -> Lora:
    """Look at a LoRA file for a model of the config `own`; nothing is loaded.

    Of layers that `own` has and `chosen`, another temporal conditioning of it, lacks, a warning says that they are left
    out. Raises ValueError for a strength out of range, CheckpointError for a file that is no LoRA or another model's.
    """
    if not -_MAX_STRENGTH <= strength <= _MAX_STRENGTH:
        raise ValueError(f"lora strength must be from -{_MAX_STRENGTH:g} to {_MAX_STRENGTH:g}; got {strength}")
    file = open_weights(path)
    named = file.metadata.get("fusionframes", "").removeprefix("lora ")
    problems = {}
    for part in (named,) if named in UNETS else UNETS:
        problems[part] = misfit(matrices(own, part), file.shapes)
        if not problems[part]:
            _warn_of_another_model(file, own)
            return Lora(file, part, _kept(file, own, chosen or own, part), strength)
    why = "; ".join(f"its {part} U-Net: {problem}" for part, problem in problems.items())
    raise CheckpointError(f"{path} is no LoRA of {own.name}: {why}")


def _warn_of_another_model(file: WeightsFile, own: ModelConfig) -> None:
    """Models of one shape may be different ones: 1.0 and 1.1 have most layers alike."""
    trained_on = file.metadata.get("model", own.name)
    if trained_on != own.name:
        warnings.warn(f"{file.path} was trained on {trained_on}; this model is {own.name}", stacklevel=4)


def _kept(file: WeightsFile, own: ModelConfig, chosen: ModelConfig, part: str) -> tuple[str, ...]:
    before, now = matrices(own, part), matrices(chosen, part)
    lost = {layer for layer in layers_of(file.entries) if now.get(layer) != before[layer]}
    if lost:
        warnings.warn(
            f"{file.path} was made for other temporal blocks: {len(lost)} of its {len(layers_of(file.entries))} layers "
            "are left out",
            stacklevel=4,
        )
    return tuple(name for name in file.entries if layer_of(name) not in lost)


def matrices(config: ModelConfig, part: str) -> dict[str, tuple[int, ...]]:
    """The layers of a U-Net that adapters can change, and the shapes of their weights."""
    return shapes_in(build(getattr(config, part), device="meta"))


def shapes_in(unet: nn.Module) -> dict[str, tuple[int, ...]]:
    """`matrices` of a U-Net that is there."""
    weights = ((name, getattr(module, "weight", None)) for name, module in unet.named_modules())
    return {name: tuple(value.shape) for name, value in weights if isinstance(value, Tensor) and value.ndim > 1}


def layer_of(name: str) -> str:
    """The layer that a tensor of a file belongs to."""
    return name.removeprefix(PREFIX).rsplit(".lora_", 1)[0]


def layers_of(names: Iterable[str]) -> list[str]:
    """The layers that a file's tensors belong to."""
    return sorted({layer_of(name) for name in names})


def misfit(known: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Why tensors of these shapes are no adapters of the `known` layers, by the first example; "" when they are."""
    if not shapes:
        return "it is empty"
    for layer in layers_of(shapes):
        if layer not in known:
            return f"there is no layer {layer}"
    wanted = {f"{PREFIX}{layer}{end}" for layer in layers_of(shapes) for end in _ENDS.values()}
    for name in sorted(wanted ^ shapes.keys()):
        return f"{name} is {'missing' if name in wanted else 'no part of an adapter'}"
    for layer in layers_of(shapes):
        down, up = (tuple(shapes[f"{PREFIX}{layer}{_ENDS[letter]}"]) for letter in "AB")
        outputs, *inputs = known[layer]
        rank = down[0] if down else 0
        if down != (rank, *inputs) or up[:2] != (outputs, rank) or math.prod(up) != outputs * rank:
            return f"{layer} is {known[layer]}, its adapter {up} times {down}"
    return ""


@torch.no_grad()
def add_lora(unet: nn.Module, tensors: Mapping[str, Tensor], strength: float) -> None:
    """W + strength · B·A for the layers that `tensors` names. Raises ValueError for those that `unet` lacks."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    problem = misfit(shapes_in(unet), shapes) if shapes else ""  # none: all of them were left out
    if problem:
        raise ValueError(f"the LoRA is of another model: {problem}")
    layers: dict[str, Any] = dict(unet.named_modules())
    for name in layers_of(tensors) if strength else ():
        old = layers[name].weight
        down, up = (tensors[f"{PREFIX}{name}{_ENDS[letter]}"].to(old.device, torch.float32) for letter in "AB")
        new = old.float() + strength * (up.flatten(1) @ down.flatten(1)).reshape(old.shape)
        if old.dtype == FP8:  # which has no infinity: what is larger would be no number
            new = new.clamp(-FP8_LARGEST, FP8_LARGEST)
        # A new tensor: the old one may be mapped from the model's file.
        layers[name].weight = nn.Parameter(new.to(old.dtype), requires_grad=old.requires_grad)
