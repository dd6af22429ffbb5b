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
    "How closely the video follows the prompt and avoids the negative prompt: 1 is no guidance and the fastest, 5 or 6 "
    "is usual. (The paper's w is cfg − 1.)"
)


class EmptyVideoLatent(inputs.Sized):
    """Latents to begin with, for stock samplers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFrames_EmptyVideoLatent",
            display_name="FusionFrames Empty Video Latent",
            category=CATEGORY,
            description="Empty latents to begin with, for KSampler and SamplerCustomAdvanced. Sample Keyframes makes "
            "its own.",
            search_aliases=["empty latent", "empty video latent", "fusionframes latent"],
            inputs=[
                inputs.side("width"),
                inputs.side("height"),
                inputs.num_keyframes(TINY.num_frames),
                io.Float.Input(
                    "fps",
                    default=KEYFRAME_RATE,
                    min=0.1,
                    max=inputs.MAX_FPS,
                    step=0.01,
                    tooltip="How many keyframes make one second of video. Interpolate multiplies it by 4, Decode uses "
                    "it.",
                ),
                io.Int.Input("batch_size", default=1, min=1, max=64, tooltip="How many videos to make at once."),
            ],
            outputs=[io.Latent.Output(display_name="latents", tooltip="For latent_image of a sampler.")],
        )

    @classmethod
    def execute(cls, width: int, height: int, num_frames: int, fps: float, batch_size: int) -> io.NodeOutput:
        """Zeros."""
        return io.NodeOutput(latent(host.empty_latents(batch_size, num_frames, height, width), fps))


class SampleKeyframes(inputs.Sized):
    """The keyframe U-Net's denoising loop (paper section 4.1)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFrames_SampleKeyframes",
            display_name="FusionFrames Sample Keyframes",
            category=CATEGORY,
            description="Makes the keyframes of a video from a prompt: a few frames that span the whole video. "
            "Interpolate then adds the frames between them.",
            search_aliases=["fusionframes sampler", "text to video", "kandinsky video sampler", "keyframe ksampler"],
            inputs=[
                io.Model.Input("model", tooltip=inputs.KEYFRAME_MODEL),
                inputs.positive(
                    "What the video shows: a prompt from Encode Text or CLIP Text Encode, or a Prompt Schedule."
                ),
                inputs.side("width"),
                inputs.side("height"),
                inputs.num_keyframes(TINY.num_frames),
                inputs.seed(),
                inputs.steps(default=TINY.keyframe_schedule.steps),
                inputs.cfg(default=1.0 + TINY.guidance, maximum=30.0, tooltip=_CFG),
                inputs.sampler(),
                inputs.scheduler(),
                inputs.negative("video"),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=inputs.MAX_FPS,
                    step=0.01,
                    optional=True,
                    tooltip="How many keyframes make one second of video. 0 uses the model's own rate, which is 2; "
                    "Interpolate multiplies it by 4.",
                ),
                inputs.temporal_blocks("the model"),
            ],
            outputs=[io.Latent.Output(display_name="latents", tooltip="The keyframes, for Interpolate or Decode.")],
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
