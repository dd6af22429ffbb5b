"""What nodes hang on a MODEL or a CONDITIONING and our U-Nets have no place for, in a sentence before sampling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import comfy.model_sampling as comfy_sampling

from ..model.attention_patches import PATCHES, REPLACEMENTS, Place

CONDITIONS = {
    "control": "a ControlNet is connected to the conditioning, and none is made for FusionFrames: disconnect it",
    "gligen": "GLIGEN boxes are connected to the conditioning, and no GLIGEN is made for FusionFrames: disconnect them",
}
"""Keys of a conditioning's entry."""
SKIP_LAYERS = (
    "Skip Layer Guidance skips layers of transformers, and FusionFrames is a U-Net: use Perturbed-Attention Guidance "
    "instead"
)
GUIDANCES = {"SkipLayerGuidance": SKIP_LAYERS}
"""Beginnings of the names of functions that guide."""
OPTIONS = {"rope_options": "Scale ROPE moves the positions of transformers, and FusionFrames is a U-Net: disconnect it"}
"""Keys of a MODEL's transformer_options."""


def require_known_conditions(conds: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
    """Raise ValueError for a conditioning that carries what was made for other models."""
    carried = {key for entries in conds.values() for entry in entries for key in entry if entry[key] is not None}
    for key in sorted(carried & CONDITIONS.keys()):
        raise ValueError(CONDITIONS[key])


def require_known_patches(network: Any, model_options: Mapping[str, Any]) -> None:
    """Raise ValueError for patches that would do nothing, or fail, on one of our U-Nets."""
    batching = model_options.get("sampler_calc_cond_batch_function")
    for function in (*model_options.get("sampler_post_cfg_function", ()), batching):
        for name, sentence in GUIDANCES.items():
            if getattr(function, "__qualname__", "").startswith(name):
                raise ValueError(sentence)
    options = model_options.get("transformer_options", {})
    for key in sorted(OPTIONS.keys() & options.keys()):
        raise ValueError(OPTIONS[key])
    require_known_kinds(options)
    places = set(network.places.values())
    for attention, replacements in options.get("patches_replace", {}).items():
        for key in replacements:
            _require_place(attention, key, places)


def require_known_levels(noise_levels: Any) -> None:
    """Raise ValueError for the model_sampling of another kind of model, with which every step would be another one."""
    ours = isinstance(noise_levels, comfy_sampling.ModelSamplingDiscrete)
    if not ours or isinstance(noise_levels, comfy_sampling.StableCascadeSampling):
        kinds = ", ".join(kind.__name__ for kind in type(noise_levels).__bases__)
        raise ValueError(
            f"the model has noise levels of another kind of model ({kinds}): disconnect the Model Sampling node, or "
            "take Model Sampling Discrete"
        )


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
