"""Interpolate: three new frames between every two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..fusionframes_core.presets import TINY
from ..fusionframes_core.sampling.options import InterpolationOptions
from . import host, inputs
from .sockets import CATEGORY, latent, rate_of

if TYPE_CHECKING:
    from typing import Unpack

_CFG = (
    "How strongly the new frames follow the frames around them, in ComfyUI's convention: 1 is no guidance, the paper's "
    "weight w is this minus 1. Useful: 1.25 to 1.5; more copies keyframes."
)
_TEXT = "The prompt, for models whose interpolation reads it (version 1.1); others ignore it."
MAX_PASSES = 2
RATE_FACTOR = 4  # of one pass


class Interpolate(io.ComfyNode):
    """Passes of the interpolation U-Net (paper section 4.2): in each, T frames become 4T − 3."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs as ComfyUI shows them."""
        return io.Schema(
            node_id="FusionFrames_Interpolate",
            display_name="FusionFrames Interpolate",
            category=CATEGORY,
            description="Puts three new frames between every two, so that T frames become 4T − 3 and the frame rate is "
            "four times as high; two passes make 16 → 61 → 241 frames. The frames may come from anywhere: Sample "
            "Keyframes, a stock sampler, or a video through Encode Video.",
            search_aliases=["fusionframes interpolation", "frame interpolation", "rife", "slow motion", "frame rate"],
            inputs=[
                io.Model.Input("model", tooltip="The interpolation model, from FusionFrames Load Model."),
                io.Latent.Input("latents", lazy=True, tooltip="Video latents [B, 4, T, h, w] with at least 2 frames."),
                io.Int.Input(
                    "passes", default=1, min=1, max=MAX_PASSES, tooltip="How often the frame rate becomes fourfold."
                ),
                inputs.seed(),
                inputs.steps(default=TINY.interpolation_schedule.steps),
                inputs.cfg(default=1.0 + TINY.interpolation_guidance, maximum=5.0, tooltip=_CFG),
                inputs.sampler(),
                inputs.scheduler(),
                inputs.skip_frames(),
                inputs.perturbation(TINY.max_perturbation),
                io.Boolean.Input(
                    "loop",
                    default=False,
                    tooltip="On: also makes the frames between the last one and the first, for a video that repeats.",
                ),
                inputs.text(_TEXT),
            ],
            outputs=[io.Latent.Output(display_name="latents", tooltip="Video latents [B, 4, 4T − 3, h, w].")],
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
        **sampling: Unpack[host.SamplingInputs],
    ) -> io.NodeOutput:
        """Interpolate once or twice; a second pass is over neighbouring frames of full-speed video."""
        inputs.check_cfg(sampling["cfg"])
        host.require_interpolation_model(model)
        run_pass = host.interpolate_loop if loop else host.interpolate
        options, frames = host.sampling_options(**sampling), latents["samples"]
        for number in range(passes):
            told = InterpolationOptions(skip_frames if number == 0 else 1, perturbation)
            frames = run_pass(model, frames, text, told, options)
        return io.NodeOutput(latent(frames, rate_of(latents) * RATE_FACTOR**passes))


class PrepareInterpolation(io.ComfyNode):
    """What a stock sampler needs to interpolate."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs as ComfyUI shows them."""
        return io.Schema(
            node_id="FusionFrames_PrepareInterpolation",
            display_name="FusionFrames Prepare Interpolation",
            category=CATEGORY,
            description="Spreads frames over a video four times as dense and says how to interpolate, so that KSampler "
            "or SamplerCustomAdvanced can do it with the interpolation model. Interpolate does all of it in one node.",
            search_aliases=["interpolation conditioning", "spread keyframes", "fusionframes interpolation"],
            inputs=[
                io.Latent.Input("latents", tooltip="Video latents [B, 4, T, h, w] with at least 2 frames."),
                inputs.skip_frames(),
                inputs.perturbation(TINY.max_perturbation),
                inputs.text(_TEXT),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", tooltip="The network sees the frames."),
                io.Conditioning.Output(display_name="negative", tooltip="It does not: for context guidance (cfg)."),
                io.Latent.Output(display_name="latents", tooltip="Latents [B, 4, 4T − 3, h, w], the rest blended."),
            ],
        )

    @classmethod
    def execute(cls, latents: dict[str, Any], skip_frames: int, perturbation: int, text: Any = None) -> io.NodeOutput:
        """Lay the frames out."""
        frames = latents["samples"]
        host.require_latents(frames, frames=2)
        pair = host.interpolation_conditionings(text, InterpolationOptions(skip_frames, perturbation))
        video = latent(host.interpolation_latents(frames), rate_of(latents) * RATE_FACTOR)
        return io.NodeOutput(pair.positive, pair.negative, video)
