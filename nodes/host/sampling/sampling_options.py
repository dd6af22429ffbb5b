"""A sampling node's inputs as core's options: the one place where ComfyUI's cfg and names become core's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

from ....fusionframes_core.sampling.options import SamplingOptions
from ....fusionframes_core.settings import ResolvedImageSettings
from ....fusionframes_core.value_checks import check_denoise
from .model_values import OWN, OWN_WEIGHT, own_sampling, own_settings

# In a list of samplers or schedulers: what the model's makers used, by its name and by the one that old workflows hold.
DEFAULT, OLD_DEFAULT = "default", "record"


class SamplingInputs(TypedDict):
    """The inputs that every sampling node has."""

    seed: int
    steps: int
    cfg: float
    sampler: str
    scheduler: str


class ImageSamplingInputs(SamplingInputs):
    """The same and the weight of the first frame."""

    cfg_image: float


@dataclass(frozen=True)
class HostSamplingOptions(SamplingOptions):
    """Core's options with ComfyUI's: `sampler` may be any of its samplers, `scheduler` any of its schedulers.

    None is, for both, what the model's makers used.
    """

    seed: int = 0
    scheduler: str | None = None

    @property
    def guidance_words(self) -> str:
        """The weights as the node's inputs have them."""
        return f"cfg {1 + self.guidance:g}"


@dataclass(frozen=True, kw_only=True)
class ImageSamplingOptions(HostSamplingOptions):
    """The same with the weight of the first frame in 1.1's TextImageGuidance; `guidance` is that of the text."""

    image_guidance: float

    @property
    def guidance_words(self) -> str:
        """The weights as the node's inputs have them."""
        return f"cfg {self.guidance:g}, cfg_image {self.image_guidance:g}"


def sampling_options(
    model: Any,
    seed: int,
    steps: int,
    cfg: float,
    sampler: str = DEFAULT,
    scheduler: str = DEFAULT,
    denoise: float = 1.0,
) -> HostSamplingOptions:
    """The options of a MODEL's inputs, whose cfg is ComfyUI's 1 + w; steps and cfg 0 are the model's own.

    Raises ValueError for a `denoise` that the number of steps does not allow.
    """
    own = own_sampling(model)
    guidance, count = own.guidance if cfg == OWN else cfg - 1, steps or own.steps
    check_denoise(denoise, count, model.model.schedule.train_steps)
    return HostSamplingOptions(count, guidance, _name(sampler), denoise=denoise, seed=seed, scheduler=_name(scheduler))


def image_sampling_options(model: Any, inputs: ImageSamplingInputs) -> ImageSamplingOptions:
    """The options of 1.1's image to video, whose both cfg are weights as they are; −1 is the model's own weight."""
    own = own_settings(model)
    assert isinstance(own, ResolvedImageSettings)
    return ImageSamplingOptions(
        steps=inputs["steps"] or own.steps,
        guidance=own.guidance if inputs["cfg"] == OWN_WEIGHT else inputs["cfg"],
        image_guidance=own.image_guidance if inputs["cfg_image"] == OWN_WEIGHT else inputs["cfg_image"],
        sampler=_name(inputs["sampler"]),
        seed=inputs["seed"],
        scheduler=_name(inputs["scheduler"]),
    )


def _name(choice: str) -> str | None:
    return None if choice in (DEFAULT, OLD_DEFAULT) else choice
