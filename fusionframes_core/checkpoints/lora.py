"""Low-rank adapters (arXiv 2106.09685) from files that ComfyUI's stock LoRA loader takes, added to a U-Net's weights.

A file holds `diffusion_model.<layer>.lora_A.weight` (rank, inputs, ...) and `.lora_B.weight` (outputs, rank, ...) for
every layer that changes, by W + strength · B·A; with an alpha beside them by W + strength · alpha / rank · B·A.
Files of other tools have other names (`lora_names`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from ..errors import CheckpointError
from ..models.casting import FP8, FP8_LARGEST
from .component import UNETS, build
from .lora_names import PREFIX, STYLES, AdapterNames, adapter_names
from .weights_file import FLOATS, Entry, WeightsFile, open_weights

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
        problems[part] = misfit(matrices(own, part), file.entries)
        if not problems[part]:
            _warn_of_another_model(file, own)
            return Lora(file, part, _kept(file, own, chosen or own, part), strength)
    why = "; ".join(f"its {part} U-Net: {problem}" for part, problem in problems.items())
    styles = "" if named in UNETS else f"; {STYLES}"
    raise CheckpointError(f"{path} is no LoRA of {own.name}: {why}{styles}")


def _warn_of_another_model(file: WeightsFile, own: ModelConfig) -> None:
    """Models of one shape may be different ones: 1.0 and 1.1 have most layers alike."""
    trained_on = file.metadata.get("model", own.name)
    if trained_on != own.name:
        warnings.warn(f"{file.path} was trained on {trained_on}; this model is {own.name}", stacklevel=4)


def _kept(file: WeightsFile, own: ModelConfig, chosen: ModelConfig, part: str) -> tuple[str, ...]:
    before, now = matrices(own, part), matrices(chosen, part)
    adapters = adapter_names(before, file.entries)
    lost = {layer for layer in adapters if now.get(layer) != before[layer]}
    if lost:
        warnings.warn(
            f"{file.path} was made for other temporal blocks: {len(lost)} of its {len(adapters)} layers are left out",
            stacklevel=4,
        )
    return tuple(name for layer, names in adapters.items() if layer not in lost for name in names.all)


def matrices(config: ModelConfig, part: str) -> dict[str, tuple[int, ...]]:
    """The layers of a U-Net that adapters can change, and the shapes of their weights."""
    return shapes_in(build(getattr(config, part), device="meta"))


def shapes_in(unet: nn.Module) -> dict[str, tuple[int, ...]]:
    """`matrices` of a U-Net that is there."""
    weights = ((name, getattr(module, "weight", None)) for name, module in unet.named_modules())
    return {name: tuple(value.shape) for name, value in weights if isinstance(value, Tensor) and value.ndim > 1}


def misfit(known: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Tensor | Entry]) -> str:
    """Why tensors are no adapters of the `known` layers, by the first example; "" when they are."""
    if not tensors:
        return "it is empty"
    try:
        adapters = adapter_names(known, tensors)
    except ValueError as error:
        return str(error)
    return next(filter(None, (_misfit(layer, known[layer], names, tensors) for layer, names in adapters.items())), "")


def _misfit(layer: str, shape: tuple[int, ...], names: AdapterNames, tensors: Mapping[str, Tensor | Entry]) -> str:
    """`misfit` of one layer's adapter."""
    for name in (names.down, names.up):
        if tensors[name].dtype not in FLOATS:
            kind = str(tensors[name].dtype).removeprefix("torch.")
            return f"adapters must be floating-point numbers, and {name} is {kind}"
    down, up = tuple(tensors[names.down].shape), tuple(tensors[names.up].shape)
    outputs, *inputs = shape
    rank = down[0] if down else 0
    if not rank or down != (rank, *inputs) or up[:2] != (outputs, rank) or math.prod(up) != outputs * rank:
        return f"{layer} is {shape}, its adapter {up} times {down}"
    if names.alpha is not None:
        alpha = tensors[names.alpha]
        if math.prod(alpha.shape) != 1 or alpha.dtype.is_complex:
            return f"{names.alpha} must be one number; it has the shape {tuple(alpha.shape)}"
    return ""


def under_our_names(known: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Adapters that fit the `known` layers as our files have them: float32, the alphas multiplied in."""
    found: dict[str, Tensor] = {}
    for layer, names in adapter_names(known, tensors).items():
        ours = (f"{PREFIX}{layer}.lora_{letter}.weight" for letter in "AB")
        found |= zip(ours, _factors(names, tensors), strict=True)
    return found


def _factors(names: AdapterNames, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """A and B of one layer, B times alpha / rank."""
    down, up = tensors[names.down].float(), tensors[names.up].float()
    return down, up if names.alpha is None else up * (float(tensors[names.alpha]) / len(down))


@torch.no_grad()
def add_lora(unet: nn.Module, tensors: Mapping[str, Tensor], strength: float) -> None:
    """W + strength · B·A (· alpha / rank) for the layers that `tensors` names; see `lora_names` for how.

    Raises ValueError for layers that `unet` lacks and for what is no adapter.
    """
    known = shapes_in(unet)
    problem = misfit(known, tensors) if tensors else ""  # none: all of them were left out
    if problem:
        raise ValueError(f"the LoRA is of another model: {problem}")
    layers: dict[str, Any] = dict(unet.named_modules())
    for layer, names in adapter_names(known, tensors).items() if strength else ():
        old = layers[layer].weight
        down, up = (part.to(old.device) for part in _factors(names, tensors))
        new = old.float() + strength * (up.flatten(1) @ down.flatten(1)).reshape(old.shape)
        if old.dtype == FP8:  # which has no infinity: what is larger would be no number
            new = new.clamp(-FP8_LARGEST, FP8_LARGEST)
        # A new tensor: the old one may be mapped from the model's file.
        layers[layer].weight = nn.Parameter(new.to(old.dtype), requires_grad=old.requires_grad)
