"""A sampling node's inputs as core's options: the one place where ComfyUI's cfg and names become core's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from ....fusionframes_core.sampling.options import SamplingOptions

# In a list of samplers or schedulers: what the model's makers used, by its name and by the one that old workflows hold.
DEFAULT, OLD_DEFAULT = "default", "record"


class SamplingInputs(TypedDict):
    """The inputs that every sampling node has."""

    seed: int
    steps: int
    cfg: float
    sampler: str
    scheduler: str


@dataclass(frozen=True)
class HostSamplingOptions(SamplingOptions):
    """Core's options with ComfyUI's: `sampler` may be any of its samplers, `scheduler` any of its schedulers.

    None is, for both, what the model's makers used.
    """

    seed: int = 0
    scheduler: str | None = None


def sampling_options(
    seed: int, steps: int, cfg: float, sampler: str = DEFAULT, scheduler: str = DEFAULT
) -> HostSamplingOptions:
    """The options of inputs whose cfg is ComfyUI's 1 + w."""
    return HostSamplingOptions(steps, cfg - 1, _name(sampler), seed, _name(scheduler))


def image_sampling_options(seed: int, steps: int, cfg: float, sampler: str, scheduler: str) -> HostSamplingOptions:
    """The options of 1.1's image to video, whose cfg is the weight of the text as it is (TextImageGuidance)."""
    return HostSamplingOptions(steps, cfg, _name(sampler), seed, _name(scheduler))


def _name(choice: str) -> str | None:
    return None if choice in (DEFAULT, OLD_DEFAULT) else choice
