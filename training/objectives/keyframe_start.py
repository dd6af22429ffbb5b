"""What the keyframe stage starts from: image weights, temporal parts untrained or trained; and what of it trains."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from torch import Tensor

from fusionframes_core.checkpoints.open_model import load_weights
from fusionframes_core.checkpoints.state_dict import read_weights
from fusionframes_core.config import UNetConfig
from fusionframes_core.models.temporal import initialise_temporal, temporal_parameters
from fusionframes_core.models.unet.keyframe_unet import freeze_spatial, inflate_keyframe
from fusionframes_core.models.unet.unet import UNet

from .initial_weights import image_config, load_image_part

PARTS = ("temporal", "all")  # of which the first is the paper's

# Attention over frames is the same in every conditioning: inside the spatial attention or in a block beside it.
LAYER_ATTENTION, BLOCK_ATTENTION = "self_attention_block.temporal.", "temporal_attention_block."


def keyframe_model(trained: UNetConfig, image: Path | None, init: Path | None, temporal: str | None = None) -> UNet:
    """The keyframe U-Net of `trained`, or with the conditioning `temporal` instead.

    Over the `image` weights or, without them, over those of `init`; with temporal parts that do nothing or those of
    `init`: all of them, or of another conditioning than `temporal` those that fit. Raises ValueError when neither is
    given, or nothing fits.
    """
    if image is None and init is None:
        raise ValueError("image or init must name the weights to start from; got neither")
    config = trained if temporal is None else dataclasses.replace(trained, temporal=temporal)
    model = UNet(config)
    initialise_temporal(model)
    if image is not None:
        base = UNet(image_config(config))
        load_image_part(base, image)
        model = inflate_keyframe(base, config)
    if init is not None:
        same = read_weights(init).keys() == model.state_dict().keys()
        source = UNet(config if same else trained)
        load_weights(source, init)
        temporal_names = {name for name, _ in temporal_parameters(source)}
        spatial = {name: value for name, value in source.state_dict().items() if name not in temporal_names}
        model.load_state_dict(fitting_temporal(source, model) | ({} if image else spatial), strict=False)
    return model


def choose_trained(model: UNet, parts: str) -> None:
    """The temporal parts alone train, over frozen image weights (section 4.1), or all of the U-Net together.

    Raises ValueError unless `parts` is one of PARTS.
    """
    if parts not in PARTS:
        raise ValueError(f"parts must be one of {', '.join(PARTS)}; got {parts!r}")
    if parts == "temporal":
        freeze_spatial(model)
    else:
        model.requires_grad_(True)


def fitting_temporal(source: UNet, model: UNet) -> dict[str, Tensor]:
    """Temporal parts of `source` by their names in `model`, whose conditioning may be another: those of equal shapes.

    Raises ValueError when there is none.
    """
    known = dict(temporal_parameters(source))
    kept = {}
    for name, value in temporal_parameters(model):
        old = name if name in known else name.replace(LAYER_ATTENTION, BLOCK_ATTENTION)
        if old in known and known[old].shape == value.shape:
            kept[name] = known[old]
    if not kept:
        raise ValueError(f"init's temporal parts, {source.config.temporal}, have nothing for {model.config.temporal}")
    return {name: value.detach() for name, value in kept.items()}
