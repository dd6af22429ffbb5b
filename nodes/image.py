"""KandinskyVideo 1.1: keyframes that continue a first frame, drawn from the prompt or given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from comfy_api.latest import io

from ..fusionframes_core.media.frames import COVER
from ..fusionframes_core.sampling.first_frame import FirstFrame
from ..fusionframes_core.settings import IMAGE_GUIDANCE, NOISE_AUGMENTATION
from . import host, input_checks, inputs
from .sockets import CATEGORY, latent

if TYPE_CHECKING:
    from typing import Unpack

_MODEL = "A keyframe model that continues an image: that of KandinskyVideo 1.1, from Load Model or Load U-Net."
_IMAGE = (
    "The image that the video begins with. It is scaled and cropped to width and height; of a batch the first is used."
)
_VAE = "The VAE of the first frame: image_vae of Load Model, or movq.pt in Load VAE."
_STILL_SIDE = (
    "The video's {0} in pixels, as in Image to Video. The picture's {0} is twice as much. 0 is the model's own: 512."
)
_PROMPT = "What happens in the video: a prompt from Encode Text or CLIP Text Encode."


class FirstFrameInputs(TypedDict):
    """The inputs that say which image a video continues, and how."""

    vae: Any
    image: Any
    motion: str
    motion_score: float
    noise_augmentation: int
    seed: int


class ImageToVideoInputs(FirstFrameInputs, host.ImageSamplingInputs):
    """The same, and how keyframes are sampled; both cfg are 1.1's weights as they are, −1 the model's own."""


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
                inputs.side("width", _STILL_SIDE.format("width")),
                inputs.side("height", _STILL_SIDE.format("height")),
                inputs.seed("The same seed draws the same picture again; another seed draws another."),
                inputs.steps(),
                inputs.cfg(
                    30.0,
                    "How closely the picture follows the prompt: 1 is no guidance. 0 is the model's own: 6.",
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
        input_checks.check_size(width, height)
        input_checks.check_cfg(sampling["cfg"])
        host.require_image_model(model)
        host.require_our_vae(vae)
        shape, options = host.video_shape(model, height, width, 1), host.sampling_options(model, **sampling)
        host.show_sampling(model, options, shape)
        conditionings = host.text_conditionings(text, negative)
        return io.NodeOutput(host.draw_first_frame(model, vae, conditionings, shape.size, options))


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
                inputs.image_fit(),
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
        cls,
        model: Any,
        text: Any,
        width: int,
        height: int,
        num_frames: int,
        negative: Any = None,
        image_fit: str = COVER,
        **first: Unpack[FirstFrameInputs],
    ) -> io.NodeOutput:
        """Encode the image and say how to continue it."""
        input_checks.check_size(width, height)
        host.require_image_model(model)
        shape = host.video_shape(model, height, width, num_frames)
        host.show_values(model, str(shape), shape)
        frame = _first_frame(model, shape.size, image_fit, first)
        prepared = host.first_frame_conditionings(host.text_conditionings(text, negative), frame)
        samples = latent(host.empty_latents(1, shape), host.keyframe_rate(model))
        return io.NodeOutput(prepared.positive, prepared.image_only, prepared.negative, samples)


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
                inputs.steps(),
                _weight("cfg", "5", "follows the prompt", "colours get too strong"),
                _weight("cfg_image", f"{IMAGE_GUIDANCE:g}", "keeps to the first frame", "too little moves"),
                inputs.sampler(),
                inputs.scheduler(),
                inputs.negative("video"),
                inputs.temporal_blocks("the model"),
                inputs.image_fit(),
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
        image_fit: str = COVER,
        **given: Unpack[ImageToVideoInputs],
    ) -> io.NodeOutput:
        """Sample the keyframes of one video."""
        input_checks.check_size(width, height)
        input_checks.check_weight("cfg", given["cfg"])
        input_checks.check_weight("cfg_image", given["cfg_image"])
        host.require_image_model(model)
        model = host.with_blocks(model, temporal_blocks)
        shape, options = host.video_shape(model, height, width, num_frames), host.image_sampling_options(model, given)
        host.show_sampling(model, options, shape)
        frame = _first_frame(model, shape.size, image_fit, given)
        prepared = host.first_frame_conditionings(host.text_conditionings(text, negative), frame)
        keyframes = host.sample_from_image(model, prepared, host.empty_latents(1, shape), options)
        rate = host.keyframe_rate(model)
        return io.NodeOutput(latent(keyframes, rate), ui=host.keyframe_video(model, keyframes, rate))


def _video_inputs() -> list[io.Input]:
    """Size, length and motion."""
    return [
        inputs.side("width"),
        inputs.side("height"),
        inputs.num_keyframes(),
        *inputs.motion(),
        inputs.noise_on_first_frame(NOISE_AUGMENTATION),
    ]


def _weight(name: str, own: str, effect: str, instead: str) -> io.Input:
    """A weight of the three-way guidance u + w_I (i − u) + w_T (c − i), as it stands there; −1 is the model's own."""
    tooltip = (
        f"How closely the video {effect}: 1 is no guidance. -1 is the model's own: {own}. Lower it when {instead}."
    )
    return io.Float.Input(name, default=-1.0, min=-1.0, max=30.0, step=0.05, round=0.001, tooltip=tooltip)


def _first_frame(model: Any, size: tuple[int, int], image_fit: str, given: FirstFrameInputs) -> FirstFrame:
    """The image's latent at (height, width), with noise and motion. Raises ValueError for a model or VAE of another
    kind."""
    host.require_image_model(model)
    host.require_our_vae(given["vae"])
    score = inputs.score_of(given["motion"], given["motion_score"])
    first = host.encode_first_frame(given["vae"], given["image"], size, image_fit)
    return host.augment_first_frame(model, first, score, given["noise_augmentation"], given["seed"])
