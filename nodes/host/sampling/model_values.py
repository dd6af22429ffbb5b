"""What 0 in a node's input stands for: the loaded model's own value.

The values themselves are core's: GenerationSettings with nothing asked for, resolved for the model's config.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ....fusionframes_core.sampling.options import SamplingOptions
from ....fusionframes_core.settings import GenerationSettings, ResolvedSettings
from ..model.hosted_models import InterpolationModel

FACTOR = 8  # pixels to a latent; every model's
OWN = 0  # in an input for a number: the model's own
OWN_WEIGHT = -1  # the same where 0 has a meaning of its own


@dataclass(frozen=True)
class VideoShape:
    """Height, width and number of frames of keyframes."""

    height: int
    width: int
    num_frames: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    def __str__(self) -> str:
        return f"{self.width}×{self.height} pixels, {self.num_frames} keyframe{'s' * (self.num_frames != 1)}"


def own_settings(model: Any) -> ResolvedSettings:
    """The settings that a MODEL of ours was made with."""
    return GenerationSettings().resolve(model.model.config)


def own_sampling(model: Any) -> SamplingOptions:
    """How the stage of a MODEL is sampled where nothing else is asked for."""
    own = own_settings(model)
    return own.interpolation_sampling if isinstance(model.model, InterpolationModel) else own.keyframe_sampling


def require_model_for_own(model: Any | None, **given: float) -> None:
    """Raise ValueError when a value is left to the model and no model is connected."""
    left = [name for name, value in given.items() if value == OWN]
    if left and model is None:
        raise ValueError(
            f"{' and '.join(left)} must be above 0 where no model is connected; got 0, which means the model's own: "
            "connect model"
        )


def shape_of(latents: Tensor, height: int, width: int, num_frames: int) -> VideoShape:
    """The shape of a video's latents (B, 4, T, h, w). Raises ValueError where a number that is not 0 is another."""
    found = VideoShape(latents.shape[-2] * FACTOR, latents.shape[-1] * FACTOR, latents.shape[2])
    asked = VideoShape(height or found.height, width or found.width, num_frames or found.num_frames)
    if asked != found:
        raise ValueError(
            f"width, height and num_keyframes must be 0, or those of the latents, which are {found}; got {asked}"
        )
    return found


def video_shape(model: Any, height: int, width: int, num_frames: int) -> VideoShape:
    """The shape of keyframes, with a MODEL's own value in the place of each 0."""
    own = own_settings(model)
    return VideoShape(height or own.size[0], width or own.size[1], num_frames or own.num_frames)
