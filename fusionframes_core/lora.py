"""Low-rank adapters (arXiv 2106.09685) from files that ComfyUI's stock LoRA loader takes, added to a U-Net's weights.

A file holds `diffusion_model.<layer>.lora_A.weight` (rank, inputs, ...) and `.lora_B.weight` (outputs, rank, ...) for
every layer that changes, by W + strength · B·A.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .checkpoints import build
from .config import ModelConfig
from .weights_file import CheckpointError, WeightsFile, open_weights

PREFIX = "diffusion_model."  # what ComfyUI calls the U-Net of a MODEL
UNETS = ("keyframe", "interpolation")
_ENDS = {letter: f".lora_{letter}.weight" for letter in "AB"}
_MAX_STRENGTH = 100.0  # as in ComfyUI's loader


@dataclass(frozen=True)
class Lora:
    """A file that was looked at: the U-Net it belongs to, and how much of it is added."""

    file: WeightsFile
    part: str
    strength: float

    def add_to(self, unet: nn.Module) -> None:
        """W + strength · B·A for each of its layers."""
        add_lora(unet, self.file.tensors(self.file.entries), self.strength)


def open_lora(path: str | Path, config: ModelConfig, strength: float = 1.0) -> Lora:
    """Look at a LoRA file for a model of `config`; nothing is loaded.

    Raises ValueError for a strength out of range, CheckpointError for a file that is no LoRA or another model's.
    """
    if not -_MAX_STRENGTH <= strength <= _MAX_STRENGTH:
        raise ValueError(f"lora strength must be from -{_MAX_STRENGTH:g} to {_MAX_STRENGTH:g}; got {strength}")
    file = open_weights(path)
    named = file.metadata.get("fusionframes", "").removeprefix("lora ")
    problems = {}
    for part in (named,) if named in UNETS else UNETS:
        unet = build(getattr(config, part), device="meta")
        problems[part] = misfit(unet, {name: entry.shape for name, entry in file.entries.items()})
        if not problems[part]:
            return Lora(file, part, strength)
    why = "; ".join(f"its {part} U-Net: {problem}" for part, problem in problems.items())
    raise CheckpointError(f"{path} is no LoRA of {config.name}: {why}")


def layers_of(names: Mapping[str, object]) -> list[str]:
    """The layers that a file's tensors belong to."""
    return sorted({name.removeprefix(PREFIX).rsplit(".lora_", 1)[0] for name in names})


def misfit(unet: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Why tensors of these shapes are no adapters of `unet`'s layers, by the first example; "" when they are."""
    known = {name: tuple(module.weight.shape) for name, module in unet.named_modules() if _has_matrix(module)}
    if not shapes:
        return "it is empty"
    wanted = {f"{PREFIX}{layer}{end}" for layer in layers_of(shapes) for end in _ENDS.values()}
    for layer in layers_of(shapes):
        if layer not in known:
            return f"there is no layer {layer}"
    for name in sorted(wanted ^ shapes.keys()):
        return f"{name} is {'missing' if name in wanted else 'no part of an adapter'}"
    for layer in layers_of(shapes):
        down, up = (shapes[f"{PREFIX}{layer}{end}"] for end in (_ENDS["A"], _ENDS["B"]))
        outputs, *inputs = known[layer]
        if (up[0], list(down[1:]), up[1]) != (outputs, inputs, down[0]):
            return f"{layer} is {(outputs, *inputs)}, its adapter {tuple(up)} times {tuple(down)}"
    return ""


def _has_matrix(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim > 1


@torch.no_grad()
def add_lora(unet: nn.Module, tensors: Mapping[str, Tensor], strength: float) -> None:
    """W + strength · B·A for the layers that `tensors` names. Raises ValueError for those that `unet` lacks."""
    problem = misfit(unet, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    if problem:
        raise ValueError(f"the LoRA is of another model: {problem}")
    layers = dict(unet.named_modules())
    for name in layers_of(tensors) if strength else ():
        old = layers[name].weight
        down, up = (tensors[f"{PREFIX}{name}{end}"].to(old.device, torch.float32) for end in (_ENDS["A"], _ENDS["B"]))
        change = (up.flatten(1) @ down.flatten(1)).reshape(old.shape)
        # A new tensor: the old one may be mapped from the model's file.
        new = (old.float() + strength * change).to(old.dtype)
        layers[name].weight = nn.Parameter(new, requires_grad=old.requires_grad)
