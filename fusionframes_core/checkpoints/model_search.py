"""Where in a file one of our models is, and which: by names that no other model has, whatever stands before them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_MARKS = (  # of which every model that `recognise` knows has one
    "in_layer.weight",
    "post_quant_conv.weight",
    "t5.embed_tokens.weight",
    "shared.weight",
    "projection_base.0.weight",
    "text.projection.weight",
)
_AVERAGED = re.compile(r"(^|[._])(ema|swa|avg|averaged?)([._]|$)", re.IGNORECASE)
_NETWORKS = (("keyframe", "image", "interpolation"), ("movq",), ("text_encoder", "t5"), ("projections",))


def find_models(names: Iterable[str]) -> dict[str, str]:
    """What stands before the names of a model → what `recognise` calls it, for the models that matter most.

    Where there is a U-Net, other models beside it are left: it is what a host or a training program saved it with.
    """
    names = list(names)
    places = {name.removesuffix(mark) for mark in _MARKS for name in names if name == mark or name.endswith(f".{mark}")}
    found = {place: known[0] for place in sorted(places) if (known := recognise(names_behind(place, names)))}
    for kinds in _NETWORKS:
        if chosen := {place: kind for place, kind in found.items() if kind in kinds}:
            return chosen
    return {}


def is_averaged(place: str) -> bool:
    """Whether a name says that its weights are an average over training."""
    return _AVERAGED.search(place) is not None


def preferred(found: Mapping[str, str]) -> str | None:
    """The place to take a model from: the only one, or that of averaged weights; None: none, or it cannot be said."""
    averaged = [place for place in found if is_averaged(place)]
    alone = len(set(found.values())) == 1
    return next(iter(found)) if len(found) == 1 else averaged[0] if alone and len(averaged) == 1 else None


def names_behind(prefix: str, names: Iterable[str]) -> set[str]:
    """The names that begin with a prefix, without it."""
    return {name.removeprefix(prefix) for name in names if name.startswith(prefix)}


def recognise(names: set[str]) -> tuple[str, str | None, bool] | None:
    """(kind, version, official names?) of one of our models."""
    if "t5.embed_tokens.weight" in names and "projection.weight" in names:
        return "text_encoder", None, False
    if "projection_base.0.weight" in names:
        return "projections", "1.1", True
    if "shared.weight" in names and "encoder.block.0.layer.0.SelfAttention.q.weight" in names:
        return "t5", None, True
    if "post_quant_conv.weight" in names and "decoder.norm_out.conv_y.weight" in names:
        official = any(name.endswith(".temporal_merge1") for name in names)
        return "movq", "1.1" if official else None, official or not any(".temporal" in name for name in names)
    if "in_layer.weight" in names and "out_layer.2.weight" in names:
        return _recognise_unet(names)
    return ("projections", "1.1", False) if "text.projection.weight" in names else None


def _recognise_unet(names: set[str]) -> tuple[str, str | None, bool] | None:
    stills = "image_in_layer.weight" in names
    if "skip_embeddings.weight" in names:
        return "interpolation", "1.1" if any("temporal_projection_new." in name for name in names) else "1.0", True
    if "group_embedding.skip_frames.weight" in names:
        return "interpolation", None, False
    if "to_temporal_embed.1.weight" in names:
        return "keyframe", "1.1" if stills else "1.0", True
    if "frame_embedding.position.linear_in.weight" in names:
        return "keyframe", None, False
    if "to_time_embed.1.weight" in names:
        return "image", None, True
    return ("image", None, False) if "to_time_embed.linear_in.weight" in names else None
