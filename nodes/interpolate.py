"""Interpolate: three new frames between every two."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..fusionframes_core.presets import TINY
from ..fusionframes_core.settings import MAX_SKIP_FRAMES
from . import host, settings
from .sockets import CATEGORY, FRAME_RATE, Model, Text


class Interpolate(io.ComfyNode):
    """One pass of the interpolation U-Net (paper section 4.2): T frames become 4T − 3."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs as ComfyUI shows them."""
        return io.Schema(
            node_id="FusionFrames_Interpolate",
            display_name="FusionFrames Interpolate",
            category=CATEGORY,
            description="Puts three new frames between every two, so that T frames become 4T − 3 and the frame rate is "
            "four times as high. Chain two of them for 16 → 61 → 241 frames.",
            search_aliases=["fusionframes interpolation", "frame interpolation", "rife", "slow motion", "frame rate"],
            inputs=[
                Model.Input("model", tooltip="The model whose interpolation network makes the new frames."),
                io.Latent.Input("latents", tooltip="Video latents [B, 4, T, h, w] with at least 2 frames."),
                settings.seed(),
                settings.steps(default=TINY.interpolation_schedule.steps),
                settings.cfg(
                    default=1.0 + TINY.interpolation_guidance,
                    maximum=5.0,
                    tooltip="How strongly the new frames follow the frames around them, in ComfyUI's convention: 1 is "
                    "no guidance, the paper's weight w is this minus 1. Useful: 1.25 to 1.5; more copies keyframes.",
                ),
                settings.sampler(),
                io.Int.Input(
                    "skip_frames",
                    default=3,
                    min=1,
                    max=MAX_SKIP_FRAMES,
                    tooltip="How far apart the new frames are in time, in frames of full-speed video: 3 for the first "
                    "pass over keyframes, 1 for a second pass.",
                ),
                io.Int.Input(
                    "perturbation",
                    default=0,
                    min=0,
                    max=TINY.max_perturbation,
                    tooltip="Noise on the given frames, in diffusion steps: lets the new frames smooth over flaws in "
                    "them. 0 trusts them fully.",
                ),
                Text.Input(
                    "text",
                    optional=True,
                    tooltip="The prompt, for models whose interpolation reads it (version 1.1); others ignore it.",
                ),
            ],
            outputs=[io.Latent.Output(display_name="latents", tooltip="Video latents [B, 4, 4T − 3, h, w].")],
        )

    @classmethod
    def execute(cls, model: host.HostedModel, latents: dict[str, Any], **inputs: Any) -> io.NodeOutput:
        """One interpolation pass."""
        with model.on_device() as pipeline:
            frames = pipeline.interpolate(latents["samples"], callback=model.progress(), **settings.to_core(inputs))
        rate = 4 * latents.get(FRAME_RATE, model.pipeline.config.fps)
        return io.NodeOutput({"samples": host.to_intermediate(frames), FRAME_RATE: rate})
