"""Between latents and pixels: Decode and Encode Video."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from . import host, inputs
from .sockets import CATEGORY, latent, rate_of


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
                io.Vae.Input("vae", tooltip="The MoVQ, from FusionFrames Load Model."),
                io.Latent.Input("latents", lazy=True, tooltip="Video latents [B, 4, T, h, w]."),
                io.Boolean.Input(
                    "temporal",
                    default=True,
                    tooltip="On: the decoder looks at neighbouring frames, which flickers less. Off: frame by frame.",
                ),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=inputs.MAX_FPS,
                    step=0.01,
                    tooltip="Frames per second of the video. 0: as the latents say, so that interpolation makes motion "
                    "smoother and not slower.",
                ),
                io.Int.Input(
                    "chunk",
                    default=host.CHUNK,
                    min=1,
                    max=1024,
                    tooltip="Frames that are decoded together. Fewer need less memory.",
                ),
                io.Int.Input(
                    "overlap",
                    default=host.OVERLAP,
                    min=0,
                    max=64,
                    tooltip="Frames that neighbouring chunks share and fade over; less than chunk.",
                ),
            ],
            outputs=[
                io.Video.Output(display_name="video", tooltip="All frames as a video, for Save Video."),
                io.Image.Output(display_name="images", tooltip="The frames as an image batch."),
            ],
        )

    @classmethod
    def validate_inputs(cls, chunk: int = host.CHUNK, overlap: int = host.OVERLAP) -> bool | str:
        """True, or one sentence for chunks that cannot overlap so much."""
        return host.sentence(check_chunks, chunk, overlap)

    @classmethod
    def check_lazy_status(cls, vae: Any, latents: Any = None, **others: Any) -> list[str]:
        """A wrong VAE is refused before anything is sampled."""
        host.require_our_vae(vae)
        return ["latents"] if latents is None else []

    @classmethod
    def execute(
        cls, vae: Any, latents: dict[str, Any], temporal: bool, fps: float, chunk: int, overlap: int
    ) -> io.NodeOutput:
        """Decode every frame."""
        host.require_our_vae(vae)
        host.require_latents(latents["samples"])
        images = host.decode(vae, latents["samples"], temporal=temporal, chunk=chunk, overlap=overlap)
        return io.NodeOutput(host.to_video(images, fps or rate_of(latents)), images)


def check_chunks(chunk: int, overlap: int) -> None:
    """Raise ValueError unless chunks of this size can share so many frames."""
    if not 1 <= chunk <= 1024 or not 0 <= overlap <= 64:
        raise ValueError(f"chunk must be from 1 to 1024 frames and overlap from 0 to 64; got {chunk} and {overlap}")
    if overlap >= chunk:
        raise ValueError(f"overlap must be less than chunk ({chunk}); got {overlap}")


class EncodeVideo(inputs.Sized):
    """Frames from anywhere to latents, above all for Interpolate."""

    least = 0

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs as ComfyUI shows them."""
        zero = "0: as it is. Otherwise the frames are scaled and cropped to it."
        return io.Schema(
            node_id="FusionFrames_EncodeVideo",
            display_name="FusionFrames Encode Video",
            category=CATEGORY,
            description="Turns the frames of a video, or an image batch, into latents: for Interpolate, which then "
            "makes any video's frame rate four times as high.",
            search_aliases=["fusionframes encode", "video to latents", "vae encode", "images to latents"],
            inputs=[
                io.Vae.Input("vae", tooltip="The MoVQ, from FusionFrames Load Model."),
                inputs.side("width", 0, 0, f"Width in pixels, a multiple of {inputs.SIDE_STEP}. {zero}"),
                inputs.side("height", 0, 0, f"Height in pixels, a multiple of {inputs.SIDE_STEP}. {zero}"),
                io.Int.Input(
                    "every",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="Takes the first of every so many frames: 4 leaves out what Interpolate puts back.",
                ),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=inputs.MAX_FPS,
                    step=0.01,
                    tooltip="Frames per second of what comes in. 0: as the video says (images: 8).",
                ),
                io.Video.Input("video", optional=True, tooltip="A video, from Load Video. Or connect images."),
                io.Image.Input("images", optional=True, tooltip="An image batch, one image a frame. Or connect video."),
            ],
            outputs=[io.Latent.Output(display_name="latents", tooltip="Video latents [1, 4, T, h, w].")],
        )

    @classmethod
    def execute(
        cls,
        vae: Any,
        width: int,
        height: int,
        every: int,
        fps: float,
        video: Any = None,
        images: Any = None,
    ) -> io.NodeOutput:
        """Encode every frame, or each first of `every`."""
        host.require_our_vae(vae)
        frames, rate = host.frames_of(video, images)
        samples = host.encode_frames(vae, frames[::every], width, height)
        return io.NodeOutput(latent(samples, (fps or rate) / every))
