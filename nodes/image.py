"""KandinskyVideo 1.1: keyframes that continue a first frame, drawn from the prompt or given."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..fusionframes_core.presets import KANDINSKY_VIDEO_1_1
from ..fusionframes_core.settings import IMAGE_GUIDANCE, NOISE_AUGMENTATION
from . import host, inputs
from .sockets import CATEGORY, latent

_HEIGHT, _WIDTH = KANDINSKY_VIDEO_1_1.size
_MODEL = "A keyframe model that continues a first frame: KandinskyVideo 1.1."
_IMAGE = "The first frame. It is scaled and cropped to width and height; of a batch the first image is taken."
_VAE = "The MoVQ of the first frame: image_vae of Load Model, or movq.pt in Load MoVQ."
_NEGATIVE = "What must not be shown: another encoded prompt. Left open: the empty prompt."


class DrawFirstFrame(inputs.Sized):
    """A still from the keyframe U-Net, whose temporal parts are skipped."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs as ComfyUI shows them."""
        return io.Schema(
            node_id="FusionFrames_DrawFirstFrame",
            display_name="FusionFrames Draw First Frame",
            category=CATEGORY,
            description="Draws the picture that a video of KandinskyVideo 1.1 begins with, from the prompt, at twice "
            "the video's size. Image to Video then makes it move: together they are text to video.",
            search_aliases=["first frame", "text to image", "fusionframes still", "kandinsky video 1.1"],
            inputs=[
                io.Model.Input("model", tooltip=_MODEL),
                io.Conditioning.Input("text", tooltip="What the picture shows: an encoded prompt."),
                io.Vae.Input("vae", tooltip=_VAE),
                inputs.side("width", _WIDTH),
                inputs.side("height", _HEIGHT),
                inputs.seed(),
                inputs.steps(default=KANDINSKY_VIDEO_1_1.keyframe_schedule.steps),
                inputs.cfg(
                    default=1.0 + KANDINSKY_VIDEO_1_1.guidance,
                    maximum=30.0,
                    tooltip="How strongly the prompt is followed, in ComfyUI's convention: 1 is no guidance.",
                ),
                inputs.sampler(),
                inputs.scheduler(),
                io.Conditioning.Input("negative", optional=True, tooltip=_NEGATIVE),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The picture, for Image to Video or any image node.")
            ],
        )

    @classmethod
    def execute(
        cls, model: Any, text: Any, vae: Any, width: int, height: int, negative: Any = None, **how: Any
    ) -> io.NodeOutput:
        """Draw one picture."""
        inputs.check_cfg(how["cfg"])
        host.require_image_model(model)
        host.require_our_vae(vae)
        return io.NodeOutput(host.draw_first_frame(model, text, vae, negative, (height, width), **how))


class PrepareFirstFrame(inputs.Sized):
    """What a stock sampler needs to continue an image."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs as ComfyUI shows them."""
        return io.Schema(
            node_id="FusionFrames_PrepareFirstFrame",
            display_name="FusionFrames Prepare First Frame",
            category=CATEGORY,
            description="Makes the conditions of image to video for stock samplers: with Dual CFG Guider (regular) "
            "they are the three-way guidance of KandinskyVideo 1.1. Image to Video does all of it in one node.",
            search_aliases=["image to video conditioning", "first frame conditioning", "dual cfg", "i2v"],
            inputs=[
                io.Model.Input("model", tooltip=_MODEL),
                io.Conditioning.Input("text", tooltip="What happens in the video: an encoded prompt."),
                io.Vae.Input("vae", tooltip=_VAE),
                io.Image.Input("image", tooltip=_IMAGE),
                *_video_inputs(),
                inputs.seed(),
                io.Conditioning.Input("negative", optional=True, tooltip=_NEGATIVE),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", tooltip="Text and image: cond1 of Dual CFG Guider."),
                io.Conditioning.Output(display_name="image_only", tooltip="The image alone: cond2 of Dual CFG Guider."),
                io.Conditioning.Output(display_name="negative", tooltip="Neither: negative of Dual CFG Guider."),
                io.Latent.Output(display_name="latents", tooltip="Empty latents [1, 4, T, h, w]."),
            ],
        )

    @classmethod
    def execute(
        cls, model: Any, text: Any, width: int, height: int, num_frames: int, negative: Any = None, **image: Any
    ) -> io.NodeOutput:
        """Encode the image and say how to continue it."""
        conditions = _conditions(model, text, negative, (height, width), **image)
        samples = host.empty_latents(1, num_frames, height, width)
        return io.NodeOutput(*conditions, latent(samples, host.keyframe_rate(model)))


class ImageToVideo(inputs.Sized):
    """Keyframes that continue an image, by the three-way guidance of 1.1."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs as ComfyUI shows them."""
        return io.Schema(
            node_id="FusionFrames_ImageToVideo",
            display_name="FusionFrames Image to Video",
            category=CATEGORY,
            description="Makes the keyframes of a video that begins with an image (KandinskyVideo 1.1): yours, or one "
            "from Draw First Frame. Interpolate puts frames between them.",
            search_aliases=["image to video", "i2v", "animate image", "img2vid", "fusionframes image"],
            inputs=[
                io.Model.Input("model", tooltip=_MODEL),
                io.Conditioning.Input("text", tooltip="What happens in the video: an encoded prompt."),
                io.Vae.Input("vae", tooltip=_VAE),
                io.Image.Input("image", tooltip=_IMAGE),
                *_video_inputs(),
                inputs.seed(),
                inputs.steps(default=KANDINSKY_VIDEO_1_1.keyframe_schedule.steps),
                _weight(
                    "cfg", KANDINSKY_VIDEO_1_1.guidance, "text", "1 is the prompt as it is, more follows it closer"
                ),
                _weight("cfg_image", IMAGE_GUIDANCE, "image", "more keeps closer to the first frame"),
                inputs.sampler(),
                inputs.scheduler(),
                io.Conditioning.Input("negative", optional=True, tooltip=_NEGATIVE),
                inputs.temporal_blocks("of the model"),
            ],
            outputs=[io.Latent.Output(display_name="latents", tooltip="Keyframe latents [1, 4, T, h, w].")],
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
        temporal_blocks: str = host.AUTO,
        **inputs: Any,
    ) -> io.NodeOutput:
        """Sample the keyframes of one video."""
        image = {name: inputs.pop(name) for name in ("vae", "image", "motion", "motion_score", "noise_augmentation")}
        inputs.check_cfg(inputs["cfg"], 0.0)
        inputs.check_cfg(inputs["cfg_image"], 0.0)
        host.require_image_model(model)
        model = host.with_blocks(model, temporal_blocks)
        conditions = _conditions(model, text, negative, (height, width), seed=inputs["seed"], **image)
        samples = host.empty_latents(1, num_frames, height, width)
        made = host.sample_from_image(model, conditions, samples, **inputs)
        return io.NodeOutput(latent(made, host.keyframe_rate(model)))


def _video_inputs() -> list[Any]:
    """Size, length and motion."""
    return [
        inputs.side("width", _WIDTH),
        inputs.side("height", _HEIGHT),
        inputs.num_frames(KANDINSKY_VIDEO_1_1.num_frames),
        *inputs.motion(),
        inputs.noise_augmentation(NOISE_AUGMENTATION),
    ]


def _weight(name: str, default: float, what: str, effect: str) -> Any:
    tooltip = f"Weight of the {what} in 1.1's three-way guidance: {effect}. It is upstream's weight, without + 1."
    return io.Float.Input(name, default=default, min=0.0, max=30.0, step=0.05, round=0.001, tooltip=tooltip)


def _conditions(
    model: Any,
    text: Any,
    negative: Any,
    size: tuple[int, int],
    vae: Any,
    image: Any,
    motion: str,
    motion_score: float,
    noise_augmentation: int,
    seed: int,
) -> tuple[Any, Any, Any]:
    """Text and image, image alone, neither. Raises ValueError for a model or VAE of another kind."""
    host.require_image_model(model)
    host.require_our_vae(vae)
    first = host.encode_first_frame(model, vae, image, size, seed, noise_augmentation)
    return host.prepare_first_frame(text, negative, first, inputs.score_of(motion, motion_score), noise_augmentation)
