"""What nodes hang on a MODEL or a CONDITIONING and our U-Nets have no place for, in a sentence before sampling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..model.attention_patches import PATCHES, REPLACEMENTS, Place

CONDITIONS = {
    "control": "a ControlNet is connected to the conditioning, and none is made for FusionFrames: disconnect it",
    "gligen": "GLIGEN boxes are connected to the conditioning, and no GLIGEN is made for FusionFrames: disconnect them",
}
"""Keys of a conditioning's entry."""
GUIDANCES = {
    "SelfAttentionGuidance": "Self-Attention Guidance blurs single images and cannot read videos: use "
    "Perturbed-Attention Guidance instead",
    "SkipLayerGuidance": "Skip Layer Guidance skips layers of transformers, and FusionFrames is a U-Net: use "
    "Perturbed-Attention Guidance instead",
}
"""Beginnings of the names of functions that run after guidance."""


def require_known_conditions(conds: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
    """Raise ValueError for a conditioning that carries what was made for other models."""
    carried = {key for entries in conds.values() for entry in entries for key in entry if entry[key] is not None}
    for key in sorted(carried & CONDITIONS.keys()):
        raise ValueError(CONDITIONS[key])


def require_known_patches(network: Any, model_options: Mapping[str, Any]) -> None:
    """Raise ValueError for patches that would do nothing, or fail, on one of our U-Nets."""
    for function in model_options.get("sampler_post_cfg_function", ()):
        for name, sentence in GUIDANCES.items():
            if getattr(function, "__qualname__", "").startswith(name):
                raise ValueError(sentence)
    options = model_options.get("transformer_options", {})
    require_known_kinds(options)
    places = set(network.places.values())
    for attention, replacements in options.get("patches_replace", {}).items():
        for key in replacements:
            _require_place(attention, key, places)


def require_known_kinds(options: Mapping[str, Any]) -> None:
    """Raise ValueError for patches of a kind that our U-Nets have no place for."""
    kinds = set(options.get("patches", {})) - PATCHES | set(options.get("patches_replace", {})) - REPLACEMENTS
    if kinds:
        raise ValueError(
            f"the model has patches of the kind {', '.join(sorted(kinds))}, made for other models than FusionFrames: "
            "disconnect the node that makes them"
        )


def _require_place(attention: str, key: tuple[Any, ...], places: set[Place]) -> None:
    blocks = {place.block for place in places if place.attention == attention}
    known = blocks | {(*place.block, place.index) for place in places if place.attention == attention}
    if key not in known:
        names = ", ".join(f"{name} {number}" for name, number in sorted(blocks))
        raise ValueError(
            f"the model has a patch on {attention} of block {' '.join(map(str, key))}, made for another model: this "
            f"U-Net has it in {names or 'no block'}"
        )
