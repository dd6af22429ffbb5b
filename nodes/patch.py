"""Patches on the keyframe model, and the pieces of the official sampling for SamplerCustomAdvanced."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..fusionframes_core.settings import MAX_KEYFRAMES
from . import host, input_checks, inputs
from .sockets import CATEGORY


class ExtendVideo(io.ComfyNode):
    """More keyframes than a model was trained with."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFrames_ExtendVideo",
            display_name="FusionFrames Long Video",
            category=CATEGORY,
            description="Lets a keyframe model make more keyframes than it was trained with, in context windows that "
            "overlap. A Prompt Schedule gives each part of the video its own prompt.",
            search_aliases=["long video", "extend video", "context windows", "infinite video", "fusionframes long"],
            inputs=[
                io.Model.Input("model", tooltip=inputs.KEYFRAME_MODEL),
                io.Int.Input(
                    "window",
                    display_name="context_length",
                    default=0,
                    min=0,
                    max=MAX_KEYFRAMES,
                    tooltip="How many keyframes the model sees at once, at least 2. 0 is as many as it was trained "
                    f"with: {inputs.TRAINED_FRAMES}.",
                ),
                io.Int.Input(
                    "overlap",
                    display_name="context_overlap",
                    default=0,
                    min=0,
                    max=MAX_KEYFRAMES,
                    tooltip="How many keyframes neighbouring windows share, less than context_length. More joins them "
                    "better and takes longer; 0 is half of context_length.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model", tooltip="For Sample Keyframes or any sampler, with up to 180 keyframes."
                )
            ],
        )

    @classmethod
    def execute(cls, model: Any, window: int, overlap: int) -> io.NodeOutput:
        """Patch a clone."""
        host.require_keyframe_model(model)
        length = window or host.own_settings(model).num_frames
        shared = overlap or length // 2
        host.show_values(model, f"context_length {length}, context_overlap {shared}")
        return io.NodeOutput(host.with_windows(model, length, shared))


class CloseLoop(io.ComfyNode):
    """Keyframes whose last leads into the first."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFrames_CloseLoop",
            display_name="FusionFrames Loop",
            category=CATEGORY,
            description="Makes a video that repeats without a seam: its last keyframe leads back to the first. Switch "
            "on loop in Interpolate too.",
            search_aliases=["loop", "close loop", "seamless loop", "looping video", "fusionframes loop"],
            inputs=[io.Model.Input("model", tooltip=inputs.KEYFRAME_MODEL)],
            outputs=[io.Model.Output(display_name="model", tooltip="For Sample Keyframes or any sampler.")],
        )

    @classmethod
    def execute(cls, model: Any) -> io.NodeOutput:
        """Patch a clone."""
        host.require_keyframe_model(model)
        return io.NodeOutput(host.with_loop(model))


class PlanSampling(io.ComfyNode):
    """Noise, guider, sampler and sigmas of the model's authors."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFrames_PlanSampling",
            display_name="FusionFrames Official Sampling",
            category=CATEGORY,
            description="Gives SamplerCustomAdvanced its noise, guider, sampler and sigmas as the model's authors "
            "sample: the same seed makes the same frames as Sample Keyframes or Interpolate. Replace any of the four "
            "by a stock node to try something else.",
            search_aliases=["official sampling", "plan sampling", "sampling of record", "guider", "sigmas", "noise"],
            inputs=[
                io.Model.Input("model", tooltip="A keyframe or interpolation model, from Load Model or Load U-Net."),
                io.Conditioning.Input(
                    "positive", tooltip="The prompt. To interpolate: positive of Prepare Interpolation."
                ),
                inputs.seed(),
                inputs.steps(
                    f"How many denoising steps to take. {inputs.OWN}, of keyframes or of interpolation: what Sample "
                    "Keyframes and Interpolate take."
                ),
                inputs.cfg(
                    30.0,
                    f"How closely the prompt is followed: 1 is no guidance. {inputs.OWN}. For keyframes: "
                    f"{inputs.cfg_values()}; for interpolation 1 to 1.5.",
                ),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="What should not be shown; not connected: an empty prompt. To interpolate: negative of "
                    "Prepare Interpolation.",
                ),
            ],
            outputs=[
                io.Noise.Output(
                    display_name="noise", tooltip="The noise of the seed, for noise of SamplerCustomAdvanced."
                ),
                io.Guider.Output(display_name="guider", tooltip="The model with its prompts and cfg, for guider."),
                io.Sampler.Output(
                    display_name="sampler", tooltip="The sampler that the model was made with, for sampler."
                ),
                io.Sigmas.Output(display_name="sigmas", tooltip="The noise level of each step, for sigmas."),
            ],
        )

    @classmethod
    def execute(
        cls, model: Any, positive: Any, seed: int, steps: int, cfg: float, negative: Any = None
    ) -> io.NodeOutput:
        """Put the pieces together."""
        input_checks.check_cfg(cfg)
        host.require_our_model(model)
        conditionings = host.text_conditionings(positive, negative)
        options = host.sampling_options(model, seed, steps, cfg)
        host.show_sampling(model, options)
        plan = host.plan(model, conditionings, options)
        return io.NodeOutput(plan.noise, plan.guider, plan.sampler, plan.sigmas)
