"""Sample keyframes: noise to the latents of a few frames that span the whole video."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..fusionframes_core.models.text_encoder import TextContext
from ..fusionframes_core.presets import TINY
from ..fusionframes_core.settings import MAX_KEYFRAMES
from . import host, settings
from .sockets import CATEGORY, FRAME_RATE, Model, Text


class SampleKeyframes(io.ComfyNode):
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
                Model.Input("model", tooltip="The model that makes the keyframes."),
                Text.Input("text", tooltip="What the video shows, from FusionFrames Encode Text."),
                settings.side("width"),
                settings.side("height"),
                io.Int.Input(
                    "num_frames",
                    default=TINY.num_frames,
                    min=1,
                    max=MAX_KEYFRAMES,
                    tooltip="Number of keyframes. Models are best at the number they were trained with (tiny: 16); "
                    "interpolation needs at least 2.",
                ),
                settings.seed(),
                settings.steps(default=TINY.keyframe_schedule.steps),
                settings.cfg(
                    default=1.0 + TINY.guidance,
                    maximum=30.0,
                    tooltip="How strongly the prompt (against the negative prompt) is followed, in ComfyUI's "
                    "convention: 1 is no guidance, and the paper's weight w is this minus 1.",
                ),
                settings.sampler(),
                Text.Input(
                    "negative",
                    optional=True,
                    tooltip="What the video must not show, from another Encode Text. Left open: the empty prompt.",
                ),
            ],
            outputs=[io.Latent.Output(display_name="latents", tooltip="Keyframe latents [B, 4, T, h, w].")],
        )

    @classmethod
    def validate_inputs(cls, width: int = settings.SIDE_STEP, height: int = settings.SIDE_STEP) -> bool | str:
        """True, or one sentence for a size that the decoder cannot make."""
        return host.sentence(settings.check_size, width, height)

    @classmethod
    def execute(cls, model: host.HostedModel, text: TextContext, **inputs: Any) -> io.NodeOutput:
        """Sample the keyframes of one video."""
        with model.on_device() as pipeline:
            latents = pipeline.sample_keyframes(text, callback=model.progress(), **settings.to_core(inputs))
        return io.NodeOutput({"samples": host.to_intermediate(latents), FRAME_RATE: model.pipeline.config.fps})
