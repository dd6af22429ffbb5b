"""Decode: latents to frames and a video."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from . import host
from .sockets import CATEGORY, FRAME_RATE, Model


class Decode(io.ComfyNode):
    """The temporal MoVQ decoder (paper section 4.3)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs as ComfyUI shows them."""
        return io.Schema(
            node_id="FusionFrames_Decode",
            display_name="FusionFrames Decode",
            category=CATEGORY,
            description="Turns video latents into frames and into a video that Save Video takes. Long videos are "
            "decoded in overlapping chunks.",
            search_aliases=["fusionframes decode", "movq decode", "vae decode", "latents to video"],
            inputs=[
                Model.Input("model", tooltip="The model whose decoder makes the frames."),
                io.Latent.Input("latents", tooltip="Video latents [B, 4, T, h, w]."),
                io.Boolean.Input(
                    "temporal",
                    default=True,
                    tooltip="On: the decoder looks at neighbouring frames, which flickers less. Off: frame by frame.",
                ),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=240.0,
                    step=0.01,
                    tooltip="Frames per second of the video. 0: as the latents say, so that interpolation makes motion "
                    "smoother and not slower.",
                ),
            ],
            outputs=[
                io.Video.Output(display_name="video", tooltip="All frames as a video, for Save Video."),
                io.Image.Output(display_name="images", tooltip="The frames as an image batch."),
            ],
        )

    @classmethod
    def execute(cls, model: host.HostedModel, latents: dict[str, Any], temporal: bool, fps: float) -> io.NodeOutput:
        """Decode every frame."""
        with model.on_device() as pipeline:
            pixels = pipeline.decode(latents["samples"], temporal=temporal, callback=model.progress())
        images = host.to_images(pixels)
        rate = fps or latents.get(FRAME_RATE, model.pipeline.config.fps)
        return io.NodeOutput(host.to_video(images, rate), images)
