"""Keyframes: noise to the latents of a few frames that span the whole video, and the latents to begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from . import host, input_checks, inputs
from .sockets import CATEGORY, latent, rate_of

if TYPE_CHECKING:
    from typing import Unpack

_CFG = (
    "How closely the video follows the prompt and avoids the negative prompt: 1 is no guidance and the fastest. "
    f"{inputs.OWN}: {inputs.cfg_values()}."
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
                inputs.num_keyframes(),
                inputs.frame_rate(
                    "How many keyframes make one second of video. Interpolate multiplies it by 4, Decode uses it. "
                    f"{inputs.OWN}: 2.",
                ),
                io.Int.Input("batch_size", default=1, min=1, max=64, tooltip="How many videos to make at once."),
                inputs.model_for_own(),
            ],
            outputs=[io.Latent.Output(display_name="latents", tooltip="For latent_image of a sampler.")],
        )

    @classmethod
    def execute(
        cls, width: int, height: int, num_frames: int, fps: float, batch_size: int, model: Any = None
    ) -> io.NodeOutput:
        """Zeros."""
        input_checks.check_size(width, height)
        host.require_rates(fps=fps)
        host.require_model_for_own(model, width=width, height=height, num_keyframes=num_frames, fps=fps)
        if model is None:
            return io.NodeOutput(
                latent(host.empty_latents(batch_size, host.VideoShape(height, width, num_frames)), fps)
            )
        host.require_keyframe_model(model)
        shape, rate = host.video_shape(model, height, width, num_frames), fps or host.keyframe_rate(model)
        host.show_values(model, f"{shape}, {rate:g} fps", shape)
        return io.NodeOutput(latent(host.empty_latents(batch_size, shape), rate))


class KeyframeInputs(host.SamplingInputs, total=False):
    """How keyframes are sampled, and the video that they change."""

    denoise: float
    latents: dict[str, Any] | None


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
                inputs.num_keyframes(),
                inputs.seed(),
                inputs.steps(),
                inputs.cfg(30.0, _CFG),
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
                    tooltip="How many keyframes make one second of video. 0 is the model's own rate, which is 2, "
                    "or that of latents; Interpolate multiplies it by 4.",
                ),
                inputs.temporal_blocks("the model"),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    tooltip="How much of the video in latents is made anew: 1 is all of it, less keeps more of it. Try "
                    "0.5. Below 1 connect latents.",
                ),
                io.Latent.Input(
                    "latents",
                    optional=True,
                    tooltip="A video to change, from Encode Video or another sampler: video to video. Width, height "
                    "and num_keyframes may stay 0 then.",
                ),
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
        **given: Unpack[KeyframeInputs],
    ) -> io.NodeOutput:
        """Sample the keyframes of one video, or change those that are given."""
        input_checks.check_size(width, height)
        host.require_rates(fps=fps)
        sampling: Any = {**given}
        latents = sampling.pop("latents", None)
        input_checks.check_cfg(given["cfg"])
        input_checks.check_denoise(given.get("denoise", 1.0), latents)
        host.require_text_model(model)
        model = host.with_blocks(model, temporal_blocks)
        options = host.sampling_options(model, **sampling)
        if latents is None:
            shape, rate = host.video_shape(model, height, width, num_frames), host.keyframe_rate(model)
            begun: dict[str, Any] = {"samples": host.empty_latents(1, shape)}
        else:
            host.require_latents(latents["samples"])
            shape, rate = host.shape_of(latents["samples"], height, width, num_frames), rate_of(latents)
            begun = latents
        host.show_sampling(model, options, shape)
        conditionings = host.text_conditionings(text, negative)
        mask = begun.get("noise_mask")
        keyframes, rate = host.sample_keyframes(model, conditionings, begun["samples"], options, mask), fps or rate
        return io.NodeOutput(latent(keyframes, rate), ui=host.keyframe_video(model, keyframes, rate))
