"""KandinskyVideo 1.1: keyframes that continue a first frame, drawn from the prompt or given."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..fusionframes_core.presets import KANDINSKY_VIDEO_1_1
from ..fusionframes_core.settings import IMAGE_GUIDANCE, NOISE_AUGMENTATION
from . import host, inputs
from .sockets import CATEGORY, latent

_HEIGHT, _WIDTH = KANDINSKY_VIDEO_1_1.size
_MODEL = "A keyframe model that continues an image: that of KandinskyVideo 1.1, from Load Model or Load U-Net."
_IMAGE = (
    "The image that the video begins with. It is scaled and cropped to width and height; of a batch the first is used."
)
_VAE = "The VAE of the first frame: image_vae of Load Model, or movq.pt in Load VAE."
_STILL_SIDE = "The video's {0} in pixels, as in Image to Video. The picture's {0} is twice as much."
_PROMPT = "What happens in the video: a prompt from Encode Text or CLIP Text Encode."


class DrawFirstFrame(inputs.Sized):
    """A still from the keyframe U-Net, whose temporal parts are skipped."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFrames_DrawFirstFrame",
            display_name="FusionFrames Draw First Frame",
            category=CATEGORY,
            description="Draws the picture that a video of KandinskyVideo 1.1 begins with, at twice the video's size. "
            "Image to Video then makes it move: the two nodes together turn text into video.",
            search_aliases=["first frame", "text to image", "fusionframes still", "kandinsky video 1.1"],
            inputs=[
                io.Model.Input("model", tooltip=_MODEL),
                inputs.positive("What the picture shows: a prompt from Encode Text or CLIP Text Encode."),
                io.Vae.Input("vae", tooltip=_VAE),
                inputs.side("width", _WIDTH, tooltip=_STILL_SIDE.format("width")),
                inputs.side("height", _HEIGHT, tooltip=_STILL_SIDE.format("height")),
                inputs.seed("The same seed draws the same picture again; another seed draws another."),
                inputs.steps(default=KANDINSKY_VIDEO_1_1.keyframe_schedule.steps),
                inputs.cfg(
                    default=1.0 + KANDINSKY_VIDEO_1_1.guidance,
                    maximum=30.0,
                    tooltip="How closely the picture follows the prompt: 1 is no guidance, 6 is usual. (The paper's w "
                    "is cfg − 1.)",
                ),
                inputs.sampler(),
                inputs.scheduler(),
                inputs.negative("picture"),
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
        return io.Schema(
            node_id="FusionFrames_PrepareFirstFrame",
            display_name="FusionFrames Prepare First Frame",
            category=CATEGORY,
            description="Makes what a stock sampler needs to continue an image with KandinskyVideo 1.1. Connect it to "
            "Dual CFG Guider (style regular); Image to Video does all of it in one node.",
            search_aliases=["image to video conditioning", "first frame conditioning", "dual cfg", "i2v"],
            inputs=[
                io.Model.Input("model", tooltip=_MODEL),
                inputs.positive(_PROMPT),
                io.Vae.Input("vae", tooltip=_VAE),
                io.Image.Input("image", tooltip=_IMAGE),
                *_video_inputs(),
                inputs.seed("The seed of the noise on the first frame: take the one of the sampler."),
                inputs.negative("video"),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="positive", tooltip="Prompt and image, for cond1 of Dual CFG Guider."
                ),
                io.Conditioning.Output(
                    display_name="image_only", tooltip="The image without the prompt, for cond2 of Dual CFG Guider."
                ),
                io.Conditioning.Output(
                    display_name="negative", tooltip="Neither prompt nor image, for negative of Dual CFG Guider."
                ),
                io.Latent.Output(
                    display_name="latents", tooltip="Empty latents of the video, for latent_image of the sampler."
                ),
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
        return io.Schema(
            node_id="FusionFrames_ImageToVideo",
            display_name="FusionFrames Image to Video",
            category=CATEGORY,
            description="Makes the keyframes of a video that begins with an image, yours or one from Draw First Frame "
            "(KandinskyVideo 1.1). Interpolate then adds the frames between them.",
            search_aliases=["image to video", "i2v", "animate image", "img2vid", "fusionframes image"],
            inputs=[
                io.Model.Input("model", tooltip=_MODEL),
                inputs.positive(_PROMPT),
                io.Vae.Input("vae", tooltip=_VAE),
                io.Image.Input("image", tooltip=_IMAGE),
                *_video_inputs(),
                inputs.seed(),
                inputs.steps(default=KANDINSKY_VIDEO_1_1.keyframe_schedule.steps),
                _weight("cfg", KANDINSKY_VIDEO_1_1.guidance, "follows the prompt"),
                _weight("cfg_image", IMAGE_GUIDANCE, "keeps to the first frame"),
                inputs.sampler(),
                inputs.scheduler(),
                inputs.negative("video"),
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


def _video_inputs() -> list[io.Input]:
    """Size, length and motion."""
    return [
        inputs.side("width", _WIDTH),
        inputs.side("height", _HEIGHT),
        inputs.num_keyframes(KANDINSKY_VIDEO_1_1.num_frames),
        *inputs.motion(),
        inputs.noise_on_first_frame(NOISE_AUGMENTATION),
    ]


def _weight(name: str, default: float, effect: str) -> io.Input:
    """A weight of the three-way guidance u + w_I (i − u) + w_T (c − i), as it stands there."""
    tooltip = (
        f"How closely the video {effect}: 1 is no guidance, {default:g} is usual. (The official code's own weight, "
        "without ComfyUI's + 1.)"
    )
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
