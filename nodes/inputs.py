"""Inputs that several nodes share."""

from __future__ import annotations

from comfy_api.latest import io

from ..fusionframes_core.checkpoints.temporal_blocks import TEMPORAL_CHOICES
from ..fusionframes_core.media.frames import IMAGE_FITS
from ..fusionframes_core.presets import KANDINSKY_VIDEO_1_0, KANDINSKY_VIDEO_1_1, TINY
from ..fusionframes_core.settings import (
    DEFAULT_MOTION,
    MAX_KEYFRAMES,
    MAX_MOTION,
    MAX_SEED,
    MAX_SKIP_FRAMES,
    MAX_STILL_NOISE,
    MOTION_ALIASES,
    MOTION_SCORES,
    motion_score,
    size_multiple,
)
from . import host
from .input_checks import SIDE_MAX, SIDE_STEP, check_size

MAX_FPS = 240.0
NUMBER = "number"  # of `motion`
MODELS = (TINY, KANDINSKY_VIDEO_1_0, KANDINSKY_VIDEO_1_1)

# What the models were made with, for tooltips.
LARGER_STEP = f"KandinskyVideo: of {size_multiple(KANDINSKY_VIDEO_1_0)}"
OWN = "0 is the model's own"
KEYFRAME_MODEL = "The keyframe model, from Load Model or Load U-Net."


def _of_each(tiny: object, first: object, second: object) -> str:
    """A value of each model, in words."""
    kandinsky = f"{first}" if first == second else f"{first} for 1.0, {second} for 1.1"
    return f"{tiny} for tiny, {kandinsky}" if first != second else f"{tiny} for tiny, {kandinsky} for KandinskyVideo"


TRAINED_FRAMES = _of_each(*(model.num_frames for model in MODELS))


def side(name: str, tooltip: str | None = None) -> io.Input:
    """Width or height in pixels; 0 is the model's own, or what `tooltip` says."""
    trained = _of_each(*(model.size[0] for model in MODELS))
    return io.Int.Input(
        name,
        default=0,
        min=0,
        max=SIDE_MAX,
        step=SIDE_STEP,
        tooltip=tooltip
        or f"The video's {name} in pixels, a multiple of {SIDE_STEP} ({LARGER_STEP}). {OWN}, which looks best: "
        f"{trained}.",
    )


class Sized(io.ComfyNode):
    """A node with a width and a height, of which ComfyUI itself checks no steps, and nothing where they are linked.

    `execute` checks them again (`input_checks.check_size`).
    """

    @classmethod
    def validate_inputs(cls, width: int | None = 0, height: int | None = 0) -> bool | str:
        """True, or one sentence for a size that no model can make; None is a side that comes from another node."""
        return host.sentence(check_size, width or 0, height or 0)


def num_keyframes(tooltip: str | None = None) -> io.Input:
    """Number of keyframes; 0 is the model's own."""
    return io.Int.Input(
        "num_frames",
        display_name="num_keyframes",
        default=0,
        min=0,
        max=MAX_KEYFRAMES,
        tooltip=tooltip
        or f"How many keyframes the video has; Interpolate needs at least 2. {OWN}, which looks best: "
        f"{TRAINED_FRAMES}.",
    )


def frame_rate(tooltip: str) -> io.Input:
    """Frames per second; what 0 means is in `tooltip`."""
    return io.Float.Input("fps", default=0.0, min=0.0, max=MAX_FPS, step=0.01, tooltip=tooltip)


def model_for_own() -> io.Input:
    """The model whose values stand for 0, where nothing else needs a model."""
    return io.Model.Input(
        "model",
        optional=True,
        tooltip="The keyframe model. Connect it when another input is 0: the model's own value is taken for that one.",
    )


def seed(
    tooltip: str = "The same seed makes the same video again, on every computer; another seed makes another.",
) -> io.Input:
    """The seed, as ComfyUI's samplers have it."""
    return io.Int.Input("seed", default=0, min=0, max=MAX_SEED, control_after_generate=True, tooltip=tooltip)


def steps(tooltip: str | None = None) -> io.Input:
    """Number of denoising steps; 0 is the model's own."""
    made_for = _of_each(*(model.keyframe_schedule.steps for model in MODELS))
    return io.Int.Input(
        "steps",
        default=0,
        min=0,
        max=1000,
        tooltip=tooltip
        or f"How many denoising steps to take. {OWN}: {made_for}. More are slower, and above 50 hardly better.",
    )


def interpolation_steps() -> io.Input:
    """Number of denoising steps of each interpolation pass."""
    made_for = _of_each(*(model.interpolation_schedule.steps for model in MODELS))
    return steps(f"How many denoising steps each pass takes. {OWN}: {made_for}.")


def cfg(maximum: float, tooltip: str) -> io.Input:
    """Guidance in ComfyUI's convention, 1 + w for the paper's w; 0 is the model's own."""
    return io.Float.Input("cfg", default=0.0, min=0.0, max=maximum, step=0.05, round=0.001, tooltip=tooltip)


def cfg_values(stage: str = "guidance") -> str:
    """The models' own cfg, for a tooltip: of keyframes, or of "interpolation_guidance"."""
    return _of_each(*(f"{1 + getattr(model, stage):g}" for model in MODELS))


def sampler() -> io.Input:
    """The sampler's name."""
    return io.Combo.Input(
        "sampler",
        display_name="sampler_name",
        options=host.sampler_names(),
        default=host.DEFAULT,
        tooltip="The method that turns noise into frames. 'default' is the one that the model was made with; ddim, "
        "dpmpp_2m and euler are worth a try. ('record', at the end, is the old name of 'default'.)",
    )


def scheduler() -> io.Input:
    """The scheduler's name."""
    return io.Combo.Input(
        "scheduler",
        options=host.scheduler_names(),
        default=host.DEFAULT,
        tooltip="How the noise goes down from step to step. 'default' is how the model was made: change it only to "
        "experiment. ('record', at the end, is the old name of 'default'.)",
    )


def skip_frames() -> io.Input:
    """The skip-frame number of an interpolation pass."""
    return io.Int.Input(
        "skip_frames",
        default=3,
        min=1,
        max=MAX_SKIP_FRAMES,
        tooltip="How much time lies between the frames that come in. Leave it at 3 for keyframes; set 1 for a video "
        "that already moves smoothly. (It counts the frames of full-speed video from one new "
        "frame to the next.)",
    )


def noise_on_given_frames() -> io.Input:
    """Noise on the frames that an interpolation pass is given (core's and the paper's perturbation)."""
    return io.Int.Input(
        "perturbation",
        display_name="noise_augmentation",
        default=0,
        min=0,
        max=TINY.max_perturbation,
        tooltip=_noise_tooltip(
            "given frames", "them", "smooths over flaws in them: try 50. KandinskyVideo 1.0 takes only 0"
        ),
    )


def noise_on_first_frame(default: int) -> io.Input:
    """Noise on the first frame that keyframes continue."""
    return io.Int.Input(
        "noise_augmentation",
        default=default,
        min=0,
        max=MAX_STILL_NOISE,
        tooltip=_noise_tooltip("first frame", "it", f"lets more of it change: try {default}"),
    )


def _noise_tooltip(frames: str, them: str, effect: str) -> str:
    return (
        f"How many steps of noise are put on the {frames} before the model sees {them}. 0 keeps closest to {them}; "
        f"more {effect}."
    )


def precision(tooltip: str | None = None) -> io.Input:
    """Number format of the weights."""
    return io.Combo.Input(
        "precision",
        options=list(host.PRECISIONS),
        default=host.AUTO,
        tooltip=tooltip
        or "The number format of the weights. 'auto' lets ComfyUI choose; 'bf16' and 'fp16' need half the memory "
        "of 'fp32', and 'fp8' stores U-Nets in half of that again (all else is bf16 then).",
    )


def temporal_blocks(auto: str = "the file") -> io.Input:
    """Which temporal parts a keyframe U-Net works with."""
    return io.Combo.Input(
        "temporal_blocks",
        options=list(TEMPORAL_CHOICES),
        default=host.AUTO,
        optional=True,
        tooltip=f"Which layers make the keyframes show one motion. Leave it at 'auto', those of {auto}; try 'none' to "
        "see keyframes that know nothing of each other. The other names are variants to compare: tiny has them all, "
        "other models need temporal_<name>.safetensors beside the U-Net.",
    )


def motion() -> list[io.Input]:
    """1.1's amount of motion, by name or as a number."""
    return [
        io.Combo.Input(
            "motion",
            options=[*MOTION_SCORES, NUMBER, *MOTION_ALIASES],
            default=DEFAULT_MOTION,
            tooltip=f"How much moves in the video: try '{DEFAULT_MOTION}', which the official code calls 'normal'. "
            f"'{NUMBER}' uses motion_score instead.",
        ),
        io.Float.Input(
            "motion_score",
            default=float(MOTION_SCORES[DEFAULT_MOTION]),
            min=0.0,
            max=float(MAX_MOTION),
            step=1.0,
            tooltip=f"How much moves, as a number, when motion is '{NUMBER}': "
            f"{', '.join(f'{name} is {score}' for name, score in MOTION_SCORES.items())}.",
        ),
    ]


def image_fit() -> io.Input:
    """How the image is fitted into the video."""
    return io.Combo.Input(
        "image_fit",
        options=list(IMAGE_FITS),
        default=IMAGE_FITS[0],
        optional=True,
        tooltip="How the image gets the video's size: 'cover' scales and crops it, small images too; 'official' is the "
        "official code, which leaves black around an image smaller than the video.",
    )


def score_of(motion: str, number: float) -> float:
    """The score that the inputs of `motion` mean. Raises ValueError for a number that is none."""
    return motion_score(number if motion == NUMBER else motion)


def positive(tooltip: str) -> io.Input:
    """The prompt."""
    return io.Conditioning.Input("text", display_name="positive", tooltip=tooltip)


def negative(shown: str) -> io.Input:
    """The negative prompt, which may be left open."""
    tooltip = f"What the {shown} should not show: another prompt. Not connected, it is an empty prompt."
    return io.Conditioning.Input("negative", optional=True, tooltip=tooltip)


def interpolation_prompt() -> io.Input:
    """The prompt, for models whose interpolation reads it."""
    return io.Conditioning.Input(
        "text",
        display_name="positive",
        optional=True,
        tooltip="The prompt of the keyframes, for models whose interpolation reads it (KandinskyVideo 1.1). Others "
        "ignore it.",
    )
