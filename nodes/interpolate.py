"""Interpolate: three new frames between every two."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..fusionframes_core.sampling.frame_rates import (
    MAX_MULTIPLIER,
    MAX_PASSES,
    PASS_FACTOR,
    as_multiplier,
    frames_by_time,
    multiplier_to,
    passes_for,
)
from ..fusionframes_core.sampling.options import InterpolationOptions
from ..fusionframes_core.settings import PASSES_OF_FPS
from . import host, input_checks, inputs
from .sockets import CATEGORY, latent, rate_of

if TYPE_CHECKING:
    from typing import Unpack

_CFG = (
    "How closely the new frames follow the frames around them: 1 is no guidance. 1.25 to 1.5 is useful, more makes "
    f"copies of the keyframes. {inputs.OWN}: {inputs.cfg_values('interpolation_guidance')}."
)
_LATENTS = "The frames to fill up, at least 2: from Sample Keyframes, KSampler or Encode Video."
_BY_PASSES = "passes"  # of `fps`
_NO_RATE = {"multiplier": 0, "target_fps": 0.0}


class InterpolateInputs(host.SamplingInputs, total=False):
    """How new frames are sampled, and what frame rate they make."""

    fps: str
    multiplier: int
    target_fps: float


class Interpolate(io.ComfyNode):
    """Passes of the interpolation U-Net (paper section 4.2): in each, T frames become 4T − 3."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFrames_Interpolate",
            display_name="FusionFrames Interpolate",
            category=CATEGORY,
            description="Adds three new frames between every two, so that motion is four times as smooth: T frames "
            "become 4T − 3. The frames may come from Sample Keyframes, from a stock sampler, or from any video through "
            "Encode Video.",
            search_aliases=["fusionframes interpolation", "frame interpolation", "rife", "slow motion", "frame rate"],
            inputs=[
                io.Model.Input("model", tooltip="The interpolation model, from Load Model or Load U-Net."),
                io.Latent.Input("latents", lazy=True, tooltip=_LATENTS),
                io.Int.Input(
                    "passes",
                    default=1,
                    min=1,
                    max=MAX_PASSES,
                    tooltip="How many times to interpolate. 1 turns 16 keyframes into 61 frames (4 times the frame "
                    "rate), 2 into 241 (16 times).",
                ),
                inputs.seed(),
                inputs.interpolation_steps(),
                inputs.cfg(5.0, _CFG),
                inputs.sampler(),
                inputs.scheduler(),
                inputs.skip_frames(),
                inputs.noise_on_given_frames(),
                io.Boolean.Input(
                    "loop",
                    default=False,
                    tooltip="Also adds the frames between the last one and the first, for a video that repeats. Switch "
                    "it on when the keyframes come through the Loop node.",
                ),
                inputs.interpolation_prompt(),
                io.Combo.Input(
                    "fps",
                    options=[_BY_PASSES, *PASSES_OF_FPS],
                    default=_BY_PASSES,
                    optional=True,
                    tooltip="The official code's choice of speed in the place of passes: 'low' keeps the keyframes (2 "
                    "frames per second), 'medium' is one pass (8), 'high' is two (32). 'passes' does as passes says.",
                ),
                io.Int.Input(
                    "multiplier",
                    default=0,
                    min=0,
                    max=MAX_MULTIPLIER,
                    optional=True,
                    tooltip="How many times the frame rate: 2, 3, 4, 8 or 16, or any whole number between. Frames are "
                    "taken by time from one or two passes; passes 2 makes 3 and other odd numbers move more evenly. 0: "
                    "as passes says.",
                ),
                io.Float.Input(
                    "target_fps",
                    default=0.0,
                    min=0.0,
                    max=inputs.MAX_FPS,
                    step=0.01,
                    optional=True,
                    tooltip="The frame rate to make, in frames per second, for example 24, in the place of "
                    "multiplier: at most 16 times that of the latents. 0: off.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latents", tooltip="All frames, the given and the new, for Decode.")
            ],
        )

    @classmethod
    def check_lazy_status(cls, model: Any, latents: Any = None, **others: Any) -> list[str]:
        """A wrong model is refused before keyframes are sampled."""
        host.require_interpolation_model(model)
        return ["latents"] if latents is None else []

    @classmethod
    def execute(
        cls,
        model: Any,
        latents: dict[str, Any],
        passes: int,
        skip_frames: int,
        perturbation: int,
        loop: bool,
        text: Any = None,
        **given: Unpack[InterpolateInputs],
    ) -> io.NodeOutput:
        """Interpolate once or twice; a second pass is over neighbouring frames of full-speed video."""
        sampling: Any = {**given}
        wanted = Rate(*(sampling.pop(name, other) for name, other in (("fps", _BY_PASSES), *_NO_RATE.items())))
        input_checks.check_cfg(given["cfg"])
        host.require_interpolation_model(model)
        rate, frames = rate_of(latents), latents["samples"]
        multiple = wanted.multiple_of(rate)
        count = PASSES_OF_FPS.get(wanted.fps, passes) if multiple is None else wanted.passes(multiple, passes)
        run_pass = host.interpolate_loop if loop else host.interpolate
        options, given_count = host.sampling_options(model, **sampling), frames.shape[2]
        host.show_sampling(model, options)
        for number in range(count):
            told = InterpolationOptions(skip_frames if number == 0 else 1, perturbation)
            frames = run_pass(model, frames, text, told, options)
        if multiple is not None:
            frames = frames[:, :, frames_by_time(given_count, count, multiple, loop)]
        return io.NodeOutput(latent(frames, rate * float(multiple or PASS_FACTOR**count)))


@dataclass(frozen=True)
class Rate:
    """The frame rate that the inputs ask for."""

    fps: str
    multiplier: int
    target_fps: float

    def multiple_of(self, rate: float) -> Fraction | None:
        """How many times `rate` it is; None: as the passes make it. Raises ValueError for two wishes at once."""
        given = [name for name, off in _NO_RATE.items() if getattr(self, name) != off]
        if self.fps != _BY_PASSES:
            given = ["fps", *given]
        if len(given) > 1:
            raise ValueError(f"{given[1]} must be 0 where {given[0]} is set; got {getattr(self, given[1])}")
        if self.target_fps:
            return multiplier_to(rate, self.target_fps)
        return as_multiplier("multiplier", self.multiplier) if self.multiplier else None

    @staticmethod
    def passes(multiple: Fraction, asked: int) -> int:
        """As many as the rate needs; two, where they are asked for, make odd rates move more evenly."""
        return passes_for(multiple, asked if asked > 1 else 0)


class PrepareInterpolation(io.ComfyNode):
    """What a stock sampler needs to interpolate."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFrames_PrepareInterpolation",
            display_name="FusionFrames Prepare Interpolation",
            category=CATEGORY,
            description="Makes what KSampler or SamplerCustomAdvanced needs to interpolate with the interpolation "
            "model: three new frames between every two. Interpolate does all of it in one node.",
            search_aliases=["interpolation conditioning", "spread keyframes", "fusionframes interpolation"],
            inputs=[
                io.Latent.Input("latents", tooltip=_LATENTS),
                inputs.skip_frames(),
                inputs.noise_on_given_frames(),
                inputs.interpolation_prompt(),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="positive", tooltip="For positive of the sampler: the model sees the given frames."
                ),
                io.Conditioning.Output(
                    display_name="negative",
                    tooltip="For negative of the sampler: the model does not see them, which is what cfg compares with."
                    "",
                ),
                io.Latent.Output(
                    display_name="latents",
                    tooltip="For latent_image of the sampler: the given frames, with three places between every two.",
                ),
            ],
        )

    @classmethod
    def execute(cls, latents: dict[str, Any], skip_frames: int, perturbation: int, text: Any = None) -> io.NodeOutput:
        """Lay the frames out."""
        frames = latents["samples"]
        host.require_latents(frames, frames=2)
        pair = host.interpolation_conditionings(text, InterpolationOptions(skip_frames, perturbation))
        video = latent(host.interpolation_latents(frames), rate_of(latents) * PASS_FACTOR)
        return io.NodeOutput(pair.positive, pair.negative, video)
