"""Keyframes: noise to the latents of a few frames that span the whole video, and the latents to begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..fusionframes_core.presets import TINY
from . import host, inputs
from .sockets import CATEGORY, KEYFRAME_RATE, latent

if TYPE_CHECKING:
    from typing import Unpack

_CFG = (
    "How strongly the prompt (against the negative prompt) is followed, in ComfyUI's convention: 1 is no guidance, and "
    "the paper's weight w is this minus 1."
)


class EmptyVideoLatent(inputs.Sized):
    """Latents to begin with, for stock samplers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs as ComfyUI shows them."""
        return io.Schema(
            node_id="FusionFrames_EmptyVideoLatent",
            display_name="FusionFrames Empty Video Latent",
            category=CATEGORY,
            description="Empty latents of a number of keyframes, for KSampler and SamplerCustomAdvanced.",
            search_aliases=["empty latent", "empty video latent", "fusionframes latent"],
            inputs=[
                inputs.side("width"),
                inputs.side("height"),
                inputs.num_frames(TINY.num_frames),
                io.Float.Input(
                    "fps",
                    default=KEYFRAME_RATE,
                    min=0.1,
                    max=inputs.MAX_FPS,
                    step=0.01,
                    tooltip="Keyframes per second of video. Interpolate makes it four times as many.",
                ),
                io.Int.Input("batch_size", default=1, min=1, max=64, tooltip="How many videos."),
            ],
            outputs=[io.Latent.Output(display_name="latents", tooltip="Empty latents [B, 4, T, h, w].")],
        )

    @classmethod
    def execute(cls, width: int, height: int, num_frames: int, fps: float, batch_size: int) -> io.NodeOutput:
        """Zeros."""
        return io.NodeOutput(latent(host.empty_latents(batch_size, num_frames, height, width), fps))


class SampleKeyframes(inputs.Sized):
    """The keyframe U-Net's denoising loop (paper section 4.1)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs as ComfyUI shows them."""
        return io.Schema(
            node_id="FusionFrames_SampleKeyframes",
            display_name="FusionFrames Sample Keyframes",
            category=CATEGORY,
            description="Makes the keyframes of a video from a prompt: a few frames, far apart in time, that tell the "
            "whole story. Interpolate puts frames between them.",
            search_aliases=["fusionframes sampler", "text to video", "kandinsky video sampler", "keyframe ksampler"],
            inputs=[
                io.Model.Input("model", tooltip="The keyframe model, from FusionFrames Load Model."),
                io.Conditioning.Input("text", tooltip="What the video shows: an encoded prompt, or a Prompt Schedule."),
                inputs.side("width"),
                inputs.side("height"),
                inputs.num_frames(TINY.num_frames),
                inputs.seed(),
                inputs.steps(default=TINY.keyframe_schedule.steps),
                inputs.cfg(default=1.0 + TINY.guidance, maximum=30.0, tooltip=_CFG),
                inputs.sampler(),
                inputs.scheduler(),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="What the video must not show: another encoded prompt. Left open: the empty prompt.",
                ),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=inputs.MAX_FPS,
                    step=0.01,
                    optional=True,
                    tooltip="Keyframes per second of video. 0: the model's own, which interpolation makes fourfold.",
                ),
                inputs.temporal_blocks("of the model"),
            ],
            outputs=[io.Latent.Output(display_name="latents", tooltip="Keyframe latents [B, 4, T, h, w].")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        text: Any,
        width: int,
        height: int,
        num_frames: int,
        negative: Any = None,
        fps: float = 0.0,
        temporal_blocks: str = host.AUTO,
        **sampling: Unpack[host.SamplingInputs],
    ) -> io.NodeOutput:
        """Sample the keyframes of one video."""
        inputs.check_cfg(sampling["cfg"])
        host.require_text_model(model)
        model = host.with_blocks(model, temporal_blocks)
        samples = host.empty_latents(1, num_frames, height, width)
        conditionings = host.text_conditionings(text, negative)
        keyframes = host.sample_keyframes(model, conditionings, samples, host.sampling_options(**sampling))
        return io.NodeOutput(latent(keyframes, fps or host.keyframe_rate(model)))
