"""What interpolation can be: three frames of every group at once (section 4.2), or every frame (appendix 10)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fusionframes_core.checkpoints.open_model import load_weights
from fusionframes_core.models.unet.interpolation_unet import (
    GROUP_BASES,
    InterpolationUNet,
    inflate_interpolation,
    split_groups,
)
from fusionframes_core.models.unet.masked_unet import VIDEO_BASES, MaskedInterpolationUNet, inflate_masked
from fusionframes_core.models.unet.unet import UNet
from fusionframes_core.sampling.interpolation_sampling import interpolate
from fusionframes_core.sampling.masked_sampling import interpolate_masked

from ..engine.model_config import model_config
from ..train_image import image_config
from .initial_weights import load_image_part


@dataclass(frozen=True)
class Architecture:
    """`parts(video)` gives keyframes and what is diffused, `bases` what that may be the difference from."""

    build: Callable[..., InterpolationUNet]
    inflate: Callable[..., InterpolationUNet]
    parts: Callable[[Tensor], tuple[Tensor, Tensor]]
    bases: dict[str, Callable[[Tensor], Tensor]]
    sample: Callable[..., Tensor]


def whole_video(video: Tensor) -> tuple[Tensor, Tensor]:
    """Keyframes (B, C, G+1, h, w) of a video (B, C, 4G+1, h, w), and all of it."""
    return split_groups(video)[0], video


def inflated_masked(image: UNet, config: Any, input_copy: str, output_copy: str) -> MaskedInterpolationUNet:
    """The image kernel has one place only, so `input_copy` and `output_copy` say nothing here."""
    return inflate_masked(image, config)


ARCHITECTURES = {
    "groups": Architecture(InterpolationUNet, inflate_interpolation, split_groups, GROUP_BASES, interpolate),
    "masked": Architecture(MaskedInterpolationUNet, inflated_masked, whole_video, VIDEO_BASES, interpolate_masked),
}


def architecture_named(name: str) -> Architecture:
    """Raises ValueError that lists the names."""
    if name not in ARCHITECTURES:
        raise ValueError(f"architecture must be one of {', '.join(ARCHITECTURES)}; got {name!r}")
    return ARCHITECTURES[name]


def interpolation_model(
    preset: str,
    image: Path | None,
    init: Path | None,
    input_copy: str = "first",
    output_copy: str = "replicate",
    architecture: str = "groups",
) -> InterpolationUNet:
    """The interpolation U-Net from `init`, or else made from the `image` weights (appendix 9).

    Raises ValueError when neither is given.
    """
    config, kind = model_config(preset), architecture_named(architecture)
    if init is not None:
        model = kind.build(config.interpolation)
        load_weights(model, init)
        return model
    if image is None:
        raise ValueError("image or init must name the weights to start from; got neither")
    start = UNet(image_config(config.keyframe))
    load_image_part(start, image)
    return kind.inflate(start, config.interpolation, input_copy, output_copy)
