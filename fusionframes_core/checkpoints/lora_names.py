"""How the tensors of LoRA files are named, by us and by others' tools, and which of a U-Net's layers they belong to.

A layer's adapter is two tensors, `down` (rank, inputs, ...) and `up` (outputs, rank, ...), and there may be a third,
`alpha`, one number that scales their product by alpha / rank. Names are those that ComfyUI's stock LoRA loader knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

PREFIX = "diffusion_model."  # what ComfyUI calls the U-Net of a MODEL
PREFIXES = (PREFIX, "model.diffusion_model.", "unet.", "base_model.model.", "lora_unet_")
"""What may stand before a layer's name, or nothing; after the last one its dots are underscores (kohya)."""

_DOWN_AND_UP = (
    (".lora_A.weight", ".lora_B.weight"),
    (".lora_down.weight", ".lora_up.weight"),
    (".lora.down.weight", ".lora.up.weight"),
    ("_lora.down.weight", "_lora.up.weight"),
    (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
    (".lora_A.default.weight", ".lora_B.default.weight"),  # "default" is what PEFT calls an adapter
    (".lora_A", ".lora_B"),
)
_PARTS = {end: part for ends in _DOWN_AND_UP for end, part in zip(ends, ("down", "up"), strict=True)}
_PARTS[".alpha"] = "alpha"
STYLES = (
    f"the names that are read begin with {', '.join(PREFIXES)} or the layer itself, and end with "
    f"{', '.join(' and '.join(ends) for ends in _DOWN_AND_UP)}, or .alpha"
)


@dataclass(frozen=True)
class AdapterNames:
    """A file's names of the tensors of one layer's adapter."""

    down: str
    up: str
    alpha: str | None

    @property
    def all(self) -> tuple[str, ...]:
        """The names of the tensors that there are."""
        return (self.down, self.up) if self.alpha is None else (self.down, self.up, self.alpha)


def adapter_names(layers: Iterable[str], names: Iterable[str]) -> dict[str, AdapterNames]:
    """Layer → the names of its adapter, for tensors of the names `names` over a U-Net with the layers `layers`.

    Raises ValueError for a name that is no part of an adapter of these layers, and for an adapter with a part missing.
    """
    known = _by_every_name(layers)
    found: dict[str, dict[str, str]] = {}
    for name in sorted(names):
        end = next((end for end in _PARTS if name.endswith(end)), None)
        if end is None:
            raise ValueError(f"{name} is no part of an adapter")
        said = _without_prefix(name.removesuffix(end), known)
        if said not in known:
            raise ValueError(f"there is no layer {said}")
        parts = found.setdefault(known[said], {})
        if _PARTS[end] in parts:
            raise ValueError(f"{parts[_PARTS[end]]} and {name} are the same part of an adapter")
        parts[_PARTS[end]] = name
    for layer, parts in found.items():
        for part in ("down", "up"):
            if part not in parts:
                raise ValueError(f"{layer} has {', '.join(parts.values())} alone: its {part} is missing")
    return {layer: AdapterNames(parts["down"], parts["up"], parts.get("alpha")) for layer, parts in found.items()}


def _by_every_name(layers: Iterable[str]) -> Mapping[str, str]:
    """A layer by its own name and by kohya's, which is not always one layer's alone."""
    own = {layer: layer for layer in layers}
    underscored: dict[str, list[str]] = {}
    for layer in own:
        underscored.setdefault(f"{PREFIXES[-1]}{layer.replace('.', '_')}", []).append(layer)
    return {**{name: found[0] for name, found in underscored.items() if len(found) == 1}, **own}


def _without_prefix(layer: str, known: Mapping[str, str]) -> str:
    """PEFT's prefix may stand before another one."""
    while layer not in known:
        prefix = next((prefix for prefix in PREFIXES[:-1] if layer.startswith(prefix)), None)
        if prefix is None:
            return layer
        layer = layer.removeprefix(prefix)
    return layer
