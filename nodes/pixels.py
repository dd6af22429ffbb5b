"""Between latents and pixels: Decode and Encode Video."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from comfy_api.latest import io

from ..fusionframes_core.media.frame_choice import FrameChoice
from ..fusionframes_core.models.movq.chunked_decode import DECODE_WINDOWS
from . import host, input_checks, inputs
from .sockets import CATEGORY, latent, rate_of

if TYPE_CHECKING:
    from typing import Unpack

MAX_FRAMES = 10**6
_VAE = "The VAE of the model, from Load Model or Load VAE."
_SCALED = (
    f"The {{}} in pixels to scale and crop the frames to, a multiple of {input_checks.SIDE_STEP} "
    f"({inputs.LARGER_STEP}). 0 keeps the frames as they are."
)


class Decode(io.ComfyNode):
    """The temporal MoVQ decoder (paper section 4.3)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFrames_Decode",
            display_name="FusionFrames Decode",
            category=CATEGORY,
            description="Turns video latents into frames, and into a video for Save Video. Long videos are decoded in "
            "pieces that overlap, so that they need little memory.",
            search_aliases=["fusionframes decode", "movq decode", "vae decode", "latents to video"],
            inputs=[
                io.Vae.Input("vae", tooltip=_VAE),
                io.Latent.Input("latents", lazy=True, tooltip="From Interpolate, Sample Keyframes or a stock sampler."),
                io.Boolean.Input(
                    "temporal",
                    default=True,
                    tooltip="On: the decoder looks at neighbouring frames too, so that the video flickers less. Off: "
                    "each frame on its own.",
                ),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=inputs.MAX_FPS,
                    step=0.01,
                    tooltip="Frames per second of the video. 0 uses the rate that comes with the latents, so that "
                    "interpolation makes motion smoother, not slower.",
                ),
                io.Int.Input(
                    "chunk",
                    display_name="temporal_size",
                    default=0,
                    min=0,
                    max=1024,
                    tooltip="How many frames are decoded at once. 0 is as many as fit the free memory, at most those "
                    "that the decoder was trained with: 8 for KandinskyVideo 1.1, 16 for others. Frames that do not "
                    "fit whole are decoded in bands, which is slower.",
                ),
                io.Int.Input(
                    "overlap",
                    display_name="temporal_overlap",
                    default=-1,
                    min=-1,
                    max=64,
                    tooltip="How many frames neighbouring pieces share and fade over, so that no seam shows. Must be "
                    "less than temporal_size; -1 is a quarter of it, at most 4.",
                ),
                io.Combo.Input(
                    "windows",
                    options=list(DECODE_WINDOWS),
                    default=DECODE_WINDOWS[0],
                    optional=True,
                    tooltip="How a long video is cut into pieces. Leave it at 'blended', whose pieces fade into each "
                    "other; 'official' has the official code's pieces of 4 to 7 frames, side by side, and ignores "
                    "the two inputs above.",
                ),
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip="The sound of the video, from Encode Video or Load Audio. What is longer than the video is "
                    "cut off when it is saved.",
                ),
            ],
            outputs=[
                io.Video.Output(display_name="video", tooltip="The video, for Save Video."),
                io.Image.Output(display_name="images", tooltip="The frames as an image batch, for any image node."),
            ],
        )

    @classmethod
    def validate_inputs(cls, chunk: int | None = 0, overlap: int | None = -1) -> bool | str:
        """True, or one sentence for chunks that cannot overlap so much."""
        return host.sentence(check_chunks, chunk, overlap)

    @classmethod
    def check_lazy_status(cls, vae: Any, latents: Any = None, **others: Any) -> list[str]:
        """A wrong VAE is refused before anything is sampled."""
        host.require_our_vae(vae)
        return ["latents"] if latents is None else []

    @classmethod
    def execute(
        cls,
        vae: Any,
        latents: dict[str, Any],
        temporal: bool,
        fps: float,
        chunk: int,
        overlap: int,
        windows: str = DECODE_WINDOWS[0],
        audio: Any = None,
    ) -> io.NodeOutput:
        """Decode every frame."""
        host.require_rates(fps=fps)
        host.require_our_vae(vae)
        host.require_latents(latents["samples"])
        cut = host.decode_windows(chunk, overlap, windows)
        images = host.decode(vae, latents["samples"], temporal, cut)
        return io.NodeOutput(host.to_video(images, fps or rate_of(latents), audio), images)


def check_chunks(chunk: int, overlap: int) -> None:
    """Raise ValueError unless chunks of this size can share so many frames."""
    if not 0 <= chunk <= 1024 or not -1 <= overlap <= 64:
        raise ValueError(
            "temporal_size must be from 0 (as many as fit) to 1024 frames and temporal_overlap from -1 (a quarter of "
            f"it) to 64; got {chunk} and {overlap}"
        )
    if chunk and overlap >= chunk:
        raise ValueError(f"temporal_overlap must be less than temporal_size ({chunk}); got {overlap}")


class LoadedPart(TypedDict, total=False):
    """Which part of a video is encoded, by the names that VideoHelperSuite has for it."""

    force_rate: float
    skip_first_frames: int
    frame_load_cap: int


class EncodeVideo(inputs.Sized):
    """Frames from anywhere to latents, above all for Interpolate."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFrames_EncodeVideo",
            display_name="FusionFrames Encode Video",
            category=CATEGORY,
            description="Turns the frames of any video, or an image batch, into latents, so that Interpolate can make "
            "its frame rate four times as high.",
            search_aliases=["fusionframes encode", "video to latents", "vae encode", "images to latents"],
            inputs=[
                io.Vae.Input("vae", tooltip=_VAE),
                inputs.side("width", _SCALED.format("width")),
                inputs.side("height", _SCALED.format("height")),
                io.Int.Input(
                    "every",
                    display_name="select_every_nth",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="Keeps one frame out of this many and leaves out the others, for Interpolate to make anew: "
                    "1 keeps all, 4 keeps every fourth.",
                ),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=inputs.MAX_FPS,
                    step=0.01,
                    tooltip="Frames per second of the input. 0 uses the video's own rate (8 for images).",
                ),
                io.Video.Input(
                    "video", optional=True, tooltip="A video from Load Video. Connect either this or images."
                ),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="An image batch, one image per frame. Connect either this or video.",
                ),
                io.Float.Input(
                    "force_rate",
                    default=0.0,
                    min=0.0,
                    max=inputs.MAX_FPS,
                    step=0.01,
                    optional=True,
                    tooltip="Takes frames by time, so many per second, before the inputs below count them. 0 keeps "
                    "the rate.",
                ),
                io.Int.Input(
                    "skip_first_frames",
                    default=0,
                    min=0,
                    max=MAX_FRAMES,
                    optional=True,
                    tooltip="Leaves out so many frames at the beginning.",
                ),
                io.Int.Input(
                    "frame_load_cap",
                    default=0,
                    min=0,
                    max=MAX_FRAMES,
                    optional=True,
                    tooltip="Encodes at most so many frames, of those that select_every_nth keeps. 0 is no limit.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latents", tooltip="The frames as latents, for Interpolate."),
                io.Audio.Output(
                    display_name="audio",
                    tooltip="The video's sound, for Decode. There is none of images, nor where fps makes the video "
                    "longer or shorter.",
                ),
            ],
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
        **part: Unpack[LoadedPart],
    ) -> io.NodeOutput:
        """Encode every frame, or those that are chosen, a few at a time."""
        input_checks.check_size(width, height)
        host.require_rates(fps=fps, force_rate=part.get("force_rate", 0.0))
        host.require_our_vae(vae)
        choice = FrameChoice(
            part.get("force_rate", 0.0), part.get("skip_first_frames", 0), every, part.get("frame_load_cap", 0)
        )
        frames = host.frames_of(video, images, choice, fps)
        samples = host.encode_frames(vae, frames.pieces, width, height)
        return io.NodeOutput(latent(samples, frames.rate), frames.audio())
