"""What interpolation can be: three frames of every group at once (section 4.2), or every frame (appendix 10)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fusionframes_core.checkpoints.open_model import load_weights
from fusionframes_core.config import ModelConfig
from fusionframes_core.errors import named
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

from .initial_weights import image_config, load_image_part


@dataclass(frozen=True)
class Architecture:
    """A denoiser of the frames between keyframes.

    `split(video)` gives the keyframes and what is diffused; `bases` are what that may be the difference from, by name;
    `sample` is its sampling loop.
    """

    build: Callable[..., InterpolationUNet]
    inflate: Callable[..., InterpolationUNet]
    split: Callable[[Tensor], tuple[Tensor, Tensor]]
    bases: dict[str, Callable[[Tensor], Tensor]]
    sample: Callable[..., Tensor]


def keyframes_and_video(video: Tensor) -> tuple[Tensor, Tensor]:
    """Keyframes (B, C, G+1, h, w) of a video (B, C, 4G+1, h, w), and all of it."""
    return split_groups(video)[0], video


def inflated_masked(image: UNet, config: Any, input_copy: str, output_copy: str) -> MaskedInterpolationUNet:
    """The image kernel has one place only, so `input_copy` and `output_copy` say nothing here."""
    return inflate_masked(image, config)


ARCHITECTURES = {
    "groups": Architecture(InterpolationUNet, inflate_interpolation, split_groups, GROUP_BASES, interpolate),
    "masked": Architecture(
        MaskedInterpolationUNet, inflated_masked, keyframes_and_video, VIDEO_BASES, interpolate_masked
    ),
}


def architecture_named(name: str) -> Architecture:
    """The architecture of that name. Raises ValueError that lists the names."""
    architecture: Architecture = named(ARCHITECTURES, "architecture", name)
    return architecture


@dataclass(frozen=True)
class InterpolationStart:
    """The weights that the stage starts from: `init`, or else text-to-image weights `image`, copied as appendix 9 says.

    `input_copy` says where the image's input kernel goes, `output_copy` whether the output layer is a copy or fresh.
    """

    image: Path | None
    init: Path | None
    input_copy: str = "first"
    output_copy: str = "replicate"

    def build(self, architecture: Architecture, config: ModelConfig) -> InterpolationUNet:
        """The interpolation U-Net. Raises ValueError without weights to start from."""
        if self.init is not None:
            model = architecture.build(config.interpolation)
            load_weights(model, self.init)
            return model
        if self.image is None:
            raise ValueError("image or init must name the weights to start from; got neither")
        start = UNet(image_config(config.keyframe))
        load_image_part(start, self.image)
        return architecture.inflate(start, config.interpolation, self.input_copy, self.output_copy)
