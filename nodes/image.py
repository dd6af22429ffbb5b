"""KandinskyVideo 1.1: keyframes that continue a first frame, drawn from the prompt or given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from comfy_api.latest import io

from ..fusionframes_core.presets import KANDINSKY_VIDEO_1_1
from ..fusionframes_core.sampling.first_frame import FirstFrame
from ..fusionframes_core.settings import IMAGE_GUIDANCE, NOISE_AUGMENTATION
from . import host, inputs
from .sockets import CATEGORY, latent

if TYPE_CHECKING:
    from typing import Unpack

_HEIGHT, _WIDTH = KANDINSKY_VIDEO_1_1.size
_MODEL = "A keyframe model that continues a first frame: KandinskyVideo 1.1."
_IMAGE = "The first frame. It is scaled and cropped to width and height; of a batch the first image is taken."
_VAE = "The MoVQ of the first frame: image_vae of Load Model, or movq.pt in Load MoVQ."
_NEGATIVE = "What must not be shown: another encoded prompt. Left open: the empty prompt."


class FirstFrameInputs(TypedDict):
    """The inputs that say which image a video continues, and how."""

    vae: Any
    image: Any
    motion: str
    motion_score: float
    noise_augmentation: int
    seed: int


class ImageToVideoInputs(FirstFrameInputs, host.SamplingInputs):
    """The same, and how keyframes are sampled; both cfg are 1.1's weights as they are."""

    cfg_image: float


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
        cls,
        model: Any,
        text: Any,
        vae: Any,
        width: int,
        height: int,
        negative: Any = None,
        **sampling: Unpack[host.SamplingInputs],
    ) -> io.NodeOutput:
        """Draw one picture."""
        inputs.check_cfg(sampling["cfg"])
        host.require_image_model(model)
        host.require_our_vae(vae)
        conditionings, options = host.text_conditionings(text, negative), host.sampling_options(**sampling)
        return io.NodeOutput(host.draw_first_frame(model, vae, conditionings, (height, width), options))


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
        cls,
        model: Any,
        text: Any,
        width: int,
        height: int,
        num_frames: int,
        negative: Any = None,
        **first: Unpack[FirstFrameInputs],
    ) -> io.NodeOutput:
        """Encode the image and say how to continue it."""
        frame = _first_frame(model, (height, width), first)
        prepared = host.first_frame_conditionings(host.text_conditionings(text, negative), frame)
        samples = latent(host.empty_latents(1, num_frames, height, width), host.keyframe_rate(model))
        return io.NodeOutput(prepared.positive, prepared.image_only, prepared.negative, samples)


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
        **given: Unpack[ImageToVideoInputs],
    ) -> io.NodeOutput:
        """Sample the keyframes of one video."""
        cfg, image_guidance = inputs.check_cfg(given["cfg"], 0.0), inputs.check_cfg(given["cfg_image"], 0.0)
        host.require_image_model(model)
        model = host.with_blocks(model, temporal_blocks)
        options = host.image_sampling_options(given["seed"], given["steps"], cfg, given["sampler"], given["scheduler"])
        frame = _first_frame(model, (height, width), given)
        prepared = host.first_frame_conditionings(host.text_conditionings(text, negative), frame)
        samples = host.empty_latents(1, num_frames, height, width)
        keyframes = host.sample_from_image(model, prepared, samples, options, image_guidance)
        return io.NodeOutput(latent(keyframes, host.keyframe_rate(model)))


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


def _first_frame(model: Any, size: tuple[int, int], given: FirstFrameInputs) -> FirstFrame:
    """The image's latent at (height, width), with noise and motion. Raises ValueError for a model or VAE of another
    kind."""
    host.require_image_model(model)
    host.require_our_vae(given["vae"])
    score = inputs.score_of(given["motion"], given["motion_score"])
    first = host.encode_first_frame(given["vae"], given["image"], size)
    return host.augment_first_frame(model, first, score, given["noise_augmentation"], given["seed"])
