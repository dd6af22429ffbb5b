"""Patches on the keyframe model, and the pieces of the sampling of record for SamplerCustomAdvanced."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..fusionframes_core.presets import TINY
from ..fusionframes_core.settings import MAX_KEYFRAMES
from . import host, inputs
from .sockets import CATEGORY


class ExtendVideo(io.ComfyNode):
    """More keyframes than a model was trained with."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs as ComfyUI shows them."""
        return io.Schema(
            node_id="FusionFrames_ExtendVideo",
            display_name="FusionFrames Long Video",
            category=CATEGORY,
            description="Lets a keyframe model make more keyframes than it was trained with: they are sampled in "
            "windows that overlap. A Prompt Schedule gives each part of the video its own prompt.",
            search_aliases=["long video", "context windows", "infinite video", "fusionframes long"],
            inputs=[
                io.Model.Input("model", tooltip="The keyframe model, from FusionFrames Load Model."),
                io.Int.Input(
                    "window",
                    default=TINY.num_frames,
                    min=2,
                    max=MAX_KEYFRAMES,
                    tooltip="Keyframes of one window: as many as the model was trained with (tiny: 16).",
                ),
                io.Int.Input(
                    "overlap",
                    default=8,
                    min=1,
                    max=MAX_KEYFRAMES,
                    tooltip="Keyframes that neighbouring windows share; half a window joins them well.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="The model, for any number of keyframes.")],
        )

    @classmethod
    def execute(cls, model: Any, window: int, overlap: int) -> io.NodeOutput:
        """Patch a clone."""
        host.require_keyframe_model(model)
        return io.NodeOutput(host.with_windows(model, window, overlap))


class CloseLoop(io.ComfyNode):
    """Keyframes whose last leads into the first."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs as ComfyUI shows them."""
        return io.Schema(
            node_id="FusionFrames_CloseLoop",
            display_name="FusionFrames Loop",
            category=CATEGORY,
            description="Makes a video that repeats without a seam: the last keyframe leads into the first. Switch on "
            "'loop' in Interpolate too.",
            search_aliases=["loop", "seamless loop", "looping video", "fusionframes loop"],
            inputs=[io.Model.Input("model", tooltip="The keyframe model, from FusionFrames Load Model.")],
            outputs=[io.Model.Output(display_name="model", tooltip="The model, making loops.")],
        )

    @classmethod
    def execute(cls, model: Any) -> io.NodeOutput:
        """Patch a clone."""
        host.require_keyframe_model(model)
        return io.NodeOutput(host.with_loop(model))


class PlanSampling(io.ComfyNode):
    """Noise, guider, sampler and sigmas of record."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs as ComfyUI shows them."""
        return io.Schema(
            node_id="FusionFrames_PlanSampling",
            display_name="FusionFrames Sampling of Record",
            category=CATEGORY,
            description="Everything that SamplerCustomAdvanced takes, as the model's makers sampled: with the same "
            "seed it gives the frames of Sample Keyframes or Interpolate. Replace any of the four by a stock node.",
            search_aliases=["guider", "sigmas", "sampler of record", "fusionframes guider"],
            inputs=[
                io.Model.Input("model", tooltip="A keyframe or interpolation model of FusionFrames."),
                io.Conditioning.Input("positive", tooltip="The prompt; for interpolation, from Prepare Interpolation."),
                inputs.seed(),
                inputs.steps(default=TINY.keyframe_schedule.steps),
                inputs.cfg(
                    default=1.0 + TINY.guidance,
                    maximum=30.0,
                    tooltip="Guidance in ComfyUI's convention: 1 is none, the paper's weight w is this minus 1. "
                    "Interpolation wants 1.25 to 1.5.",
                ),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="The negative prompt; for interpolation, from Prepare Interpolation. Left open: empty.",
                ),
            ],
            outputs=[
                io.Noise.Output(display_name="noise", tooltip="The seed's noise, as in core and our nodes."),
                io.Guider.Output(display_name="guider", tooltip="The model with its guidance and schedule."),
                io.Sampler.Output(display_name="sampler", tooltip="The sampler of record."),
                io.Sigmas.Output(display_name="sigmas", tooltip="The noise levels of record."),
            ],
        )

    @classmethod
    def execute(
        cls, model: Any, positive: Any, seed: int, steps: int, cfg: float, negative: Any = None
    ) -> io.NodeOutput:
        """Put the pieces together."""
        inputs.check_cfg(cfg)
        host.require_our_model(model)
        conditionings = host.text_conditionings(positive, negative)
        plan = host.plan(model, conditionings, host.sampling_options(seed, steps, cfg))
        return io.NodeOutput(plan.noise, plan.guider, plan.sampler, plan.sigmas)
