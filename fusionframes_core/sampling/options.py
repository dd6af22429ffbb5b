"""What sampling is asked for, as values: these pass unchanged from a node, the command line or Python to the loop."""

from __future__ import annotations

from dataclasses import dataclass

from ..models.text_encoder import TextContext


@dataclass(frozen=True)
class SamplingOptions:
    """How one stage is sampled, beside the model's noise schedule.

    `guidance` is the weight w of the stage's guidance, 0 for none (ComfyUI's cfg is 1 + w; see `guidance` for the
    equations). `sampler` is a key of SAMPLERS; None is the sampler that the model's makers used. `denoise` is how much
    of the noise there is to take away where sampling begins with a video: as in ComfyUI the steps are then the last
    ones of steps / denoise.
    """

    steps: int
    guidance: float
    sampler: str | None = None
    denoise: float = 1.0

    @property
    def whole_steps(self) -> int:
        """How many steps the whole way from noise has."""
        return int(self.steps / self.denoise)


@dataclass(frozen=True)
class InterpolationOptions:
    """What one interpolation pass is told (paper section 4.2).

    `skip_frames`: how far apart the new frames are, in frames of full-speed video. `perturbation`: how many
    forward-diffusion steps of noise the given frames get, so that the new ones may smooth over flaws in them.
    """

    skip_frames: int = 3
    perturbation: int = 0


@dataclass(frozen=True)
class ContextPair:
    """The text of the two predictions that classifier-free guidance combines.

    `unconditional` is the negative prompt's context, or the null context where there is none.
    """

    conditional: TextContext
    unconditional: TextContext

    @property
    def batch(self) -> int:
        """Number of videos."""
        return self.conditional.context.shape[0]
