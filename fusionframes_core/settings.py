"""What one generation can be asked for, its defaults, and the checks that run before any work."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from typing import Any

from .config import ModelConfig, MoVQConfig
from .media.frames import COVER, IMAGE_FITS
from .models.movq.chunked_decode import DECODE_WINDOWS
from .sampling.frame_rates import MAX_MULTIPLIER, MAX_PASSES, as_multiplier, multiplier_to, passes_for
from .sampling.options import InterpolationOptions, SamplingOptions
from .sampling.sampler import SAMPLERS
from .value_checks import check_choice, check_denoise, check_range, check_size, check_weight

MAX_SEED = 2**64 - 1
MAX_KEYFRAMES = 180  # frame positions of 1.0 are spread over 180
MAX_SKIP_FRAMES = 12  # section 4.2: s ∈ {1, ..., 12}
MAX_MOTION = 1000
MAX_STILL_NOISE = 999  # a time of the 1000-step schedule
MOTION_SCORES = {"low": 1, "medium": 10, "high": 50, "extreme": 100}  # of 1.1's code
MOTION_ALIASES = {"normal": "medium"}  # what 1.1's code calls its own default
PASSES_OF_FPS = {"low": 0, "medium": 1, "high": 2}
"""The official code's frame rates (2, 8 and 32 frames per second) → interpolation passes."""
NEGATIVES = ("own", "official")
BY_PASSES = "as passes says"
DEFAULT_MOTION, IMAGE_GUIDANCE, NOISE_AUGMENTATION = "medium", 2.0, 20  # defaults of 1.1's code


def _option(default: Any, help: str, unset: str = "of the model") -> Any:
    """A field whose `help` the command line shows; `unset` says what None stands for."""
    return field(default=default, metadata={"help": help, "unset": unset})


@dataclass(frozen=True)
class GenerationSettings:
    """Everything about a generation but the prompt. None means: as the model's config says.

    Guidance weights are upstream's w of `(1 + w)·c − w·u`; 0 is no guidance. `image_guidance`, `motion` and
    `noise_augmentation` are for models that continue an image (1.1); others refuse them.
    """

    negative_prompt: str = _option("", "what the video must not show")
    negative: str = _option(
        "own",
        "how a negative prompt is read: by its own words alone (own), or as the official code does (official): 1.0 "
        "gives it the prompt's length and mask, 1.1 ignores it",
    )
    seed: int = _option(0, "the same seed gives the same video; the second prompt of a batch gets seed + 1")
    num_frames: int | None = _option(None, "number of keyframes; 2 or more when there are interpolation passes")
    passes: int = _option(1, f"interpolation passes, 0 to {MAX_PASSES}; each turns T frames into 4T - 3")
    fps: str | None = _option(
        None,
        "low, medium or high, as the official code's: 0, 1 or 2 passes, 2, 8 or 32 frames per second",
        unset=BY_PASSES,
    )
    multiplier: float | None = _option(
        None,
        f"how many times the frame rate to make it, up to {MAX_MULTIPLIER}; frames are taken by time from the passes",
        unset=BY_PASSES,
    )
    target_fps: float | None = _option(
        None,
        "frames per second to make, taken by time from as many passes as it needs; the output is as long as before",
        unset=BY_PASSES,
    )
    skip_frames: tuple[int, ...] = _option((3, 1), f"skip-frame value of each pass, 1 to {MAX_SKIP_FRAMES}")
    perturbation: int = _option(0, "noise steps on the frames that interpolation is given")
    guidance: float | None = _option(None, "keyframe guidance weight w of (1 + w)c - wu")
    interpolation_guidance: float | None = _option(None, "context guidance weight w; 0.25 to 0.5 is useful")
    steps: int | None = _option(None, "denoising steps of the keyframes")
    interpolation_steps: int | None = _option(None, "denoising steps of each interpolation pass")
    denoise: float = _option(
        1.0, "how much of a video that keyframes begin with is made anew: above 0; 1 begins from noise alone"
    )
    sampler: str | None = _option(None, f"sampler of both stages: {', '.join(SAMPLERS)}")
    size: tuple[int, int] | None = _option(None, "height and width in pixels")
    image_guidance: float | None = _option(None, "weight of the first image (1.1 models)")
    still_guidance: float | None = _option(None, "guidance weight w of a first image that is drawn (1.1 models)")
    motion: str | None = _option(
        None, f"amount of motion (1.1 models): {', '.join(MOTION_SCORES)}, or a number from 0 to {MAX_MOTION}"
    )
    noise_augmentation: int | None = _option(None, "noise steps on the first image (1.1 models)")
    image_fit: str | None = _option(
        None,
        "how the first image is fitted (1.1 models): cover, or official, which leaves a black border around an image "
        "smaller than the video",
    )
    decode_windows: str = _option(
        "blended", "how the decoder cuts a long video: blended chunks, or the official code's groups (official)"
    )

    def resolve(self, config: ModelConfig) -> ResolvedSettings:
        """These settings with the model's defaults filled in. Raises ValueError as `validate` does.

        For a model that continues an image the result is a ResolvedImageSettings.
        """
        self.validate(config)
        if self.target_fps is not None:
            multiple = float(multiplier_to(config.fps, self.target_fps))
            return replace(self, target_fps=None, multiplier=multiple).resolve(config)
        given = {field.name: getattr(self, field.name) for field in fields(GenerationSettings)}
        chosen = {name: value for name, value in given.items() if value is not None}
        chosen["passes"] = self.needed_passes(config.fps)
        if config.keyframe.image_input:
            return ResolvedImageSettings(**{**model_defaults(config), **image_defaults(config), **chosen})
        return ResolvedSettings(**{**model_defaults(config), **chosen})

    def validate(self, config: ModelConfig) -> None:
        """Raise ValueError that names the argument, its value and what is allowed, at the first that is wrong."""
        if not isinstance(self.negative_prompt, str):
            raise ValueError(f"negative_prompt must be a string; got {self.negative_prompt!r}")
        check_range("seed", self.seed, 0, MAX_SEED)
        check_choice("negative", self.negative, NEGATIVES)
        self._validate_frames(config)
        check_range("perturbation", self.perturbation, 0, config.max_perturbation)
        if self.perturbation and config.interpolation.fixed_perturbation is not None:
            raise ValueError(f"perturbation must be 0 for {config.name}; got {self.perturbation}")
        for name in ("guidance", "interpolation_guidance", "image_guidance", "still_guidance"):
            check_weight(name, getattr(self, name))
        if self.steps is not None:
            check_range("steps", self.steps, 1, config.keyframe_schedule.train_steps)
        if self.interpolation_steps is not None:
            check_range("interpolation_steps", self.interpolation_steps, 1, config.interpolation_schedule.train_steps)
        check_denoise(self.denoise, self.steps or config.keyframe_schedule.steps, config.keyframe_schedule.train_steps)
        check_choice("sampler", self.sampler, SAMPLERS)
        for stage in ("keyframe_schedule", "interpolation_schedule"):
            check_choice(f"{stage}.sampler of {config.name}", getattr(config, stage).sampler, SAMPLERS)
        if self.size is not None:
            check_size(self.size, size_multiple(config))
        check_choice("decode_windows", self.decode_windows, DECODE_WINDOWS)
        self._validate_image(config)

    def rate_multiple(self, rate: float | Fraction) -> Fraction | None:
        """How many times `rate` the output's frame rate is; None: as the passes make it. Raises ValueError."""
        if self.target_fps is not None:
            return multiplier_to(rate, self.target_fps)
        return None if self.multiplier is None else as_multiplier("multiplier", self.multiplier)

    def needed_passes(self, rate: float | Fraction) -> int:
        """The passes over frames of `rate` that this asks for; more than one that are asked for make a finer grid."""
        multiple = self.rate_multiple(rate)
        if multiple is not None:
            return passes_for(multiple, self.passes if self.passes > 1 else 0)
        return self.passes if self.fps is None else PASSES_OF_FPS[self.fps]

    def _validate_passes(self) -> int:
        """The number of passes that `passes`, `fps` or `multiplier` asks for; `target_fps` depends on the input."""
        check_range("passes", self.passes, 0, MAX_PASSES)
        check_choice("fps", self.fps, PASSES_OF_FPS)
        rates = [name for name in ("fps", "multiplier", "target_fps") if getattr(self, name) is not None]
        if len(rates) > 1:
            raise ValueError(f"{rates[1]} must be left out with {rates[0]}; got {getattr(self, rates[1])!r}")
        if self.target_fps is not None:
            check_weight("target_fps", self.target_fps)
            return self.passes
        if self.multiplier is not None:
            return self.needed_passes(1)
        if self.fps is None:
            return self.passes
        wanted, default = PASSES_OF_FPS[self.fps], GenerationSettings.passes
        if self.passes not in (default, wanted):
            raise ValueError(f"passes must be left out, or {wanted}, with fps {self.fps!r}; got {self.passes}")
        return wanted

    def _validate_frames(self, config: ModelConfig) -> None:
        passes = self._validate_passes()
        frames = config.num_frames if self.num_frames is None else self.num_frames
        check_range("num_frames", frames, 1, MAX_KEYFRAMES)
        if passes and frames < 2:
            raise ValueError(f"num_frames must be at least 2 for interpolation (passes {passes}); got {frames}")
        if not isinstance(self.skip_frames, tuple | list) or len(self.skip_frames) < passes:
            raise ValueError(f"skip_frames must have one value for each of {passes} passes; got {self.skip_frames}")
        for value in self.skip_frames:
            check_range("skip_frames", value, 1, MAX_SKIP_FRAMES)

    def _validate_image(self, config: ModelConfig) -> None:
        names = ("image_guidance", "still_guidance", "motion", "noise_augmentation", "image_fit")
        given = [name for name in names if getattr(self, name) is not None]
        if given and not config.keyframe.image_input:
            raise ValueError(f"{given[0]} must be left out: {config.name} does not start from an image")
        if self.motion is not None:
            motion_score(self.motion)
        check_choice("image_fit", self.image_fit, IMAGE_FITS)
        if self.noise_augmentation is not None:
            check_range("noise_augmentation", self.noise_augmentation, 0, MAX_STILL_NOISE)


@dataclass(frozen=True, kw_only=True)
class ResolvedSettings(GenerationSettings):
    """GenerationSettings for one model, with every default filled in: `GenerationSettings.resolve` makes them."""

    num_frames: int = field()
    guidance: float = field()
    interpolation_guidance: float = field()
    steps: int = field()
    interpolation_steps: int = field()
    size: tuple[int, int] = field()

    @property
    def keyframe_sampling(self) -> SamplingOptions:
        """How keyframes are sampled."""
        return SamplingOptions(self.steps, self.guidance, self.sampler, self.denoise)

    @property
    def interpolation_sampling(self) -> SamplingOptions:
        """How every interpolation pass is sampled."""
        return SamplingOptions(self.interpolation_steps, self.interpolation_guidance, self.sampler)

    def interpolation_pass(self, index: int) -> InterpolationOptions:
        """What pass 0 or 1 is told."""
        return InterpolationOptions(self.skip_frames[index], self.perturbation)


@dataclass(frozen=True, kw_only=True)
class ResolvedImageSettings(ResolvedSettings):
    """ResolvedSettings for a model that continues an image (1.1)."""

    image_guidance: float = field()
    still_guidance: float = field()
    motion: str = field()
    noise_augmentation: int = field()
    image_fit: str = field()

    @property
    def still_sampling(self) -> SamplingOptions:
        """How a first frame is drawn: as keyframes are, but for the guidance."""
        return SamplingOptions(self.steps, self.still_guidance, self.sampler)


def model_defaults(config: ModelConfig) -> dict[str, Any]:
    """The values of a model for settings that are None."""
    return {
        "num_frames": config.num_frames,
        "guidance": config.guidance,
        "interpolation_guidance": config.interpolation_guidance,
        "steps": config.keyframe_schedule.steps,
        "interpolation_steps": config.interpolation_schedule.steps,
        "size": config.size,
    }


def image_defaults(config: ModelConfig) -> dict[str, Any]:
    """The same for the settings of a first frame, with the defaults of 1.1's code."""
    return {
        "image_guidance": IMAGE_GUIDANCE,
        "still_guidance": config.guidance,
        "motion": DEFAULT_MOTION,
        "noise_augmentation": NOISE_AUGMENTATION,
        "image_fit": COVER,
    }


def motion_score(motion: str | float) -> float:
    """The score of 1.1's motion by its name, or a number as it is. Raises ValueError for anything else."""
    name = MOTION_ALIASES.get(motion, motion) if isinstance(motion, str) else motion
    if name in MOTION_SCORES:
        return MOTION_SCORES[name]
    try:
        score = math.nan if isinstance(motion, bool) else float(motion)
    except (TypeError, ValueError):
        score = math.nan
    if not 0 <= score <= MAX_MOTION:
        names = ", ".join(MOTION_SCORES)
        raise ValueError(f"motion must be one of {names}; got {motion!r} (a number from 0 to {MAX_MOTION} will do too)")
    return score


def size_multiple(config: ModelConfig) -> int:
    """What height and width have to be a multiple of: the decoder's factor times the U-Nets' downsampling."""
    factor = spatial_factor(config.movq)
    levels = max(len(config.keyframe.channel_mult), len(config.interpolation.trunk.channel_mult))
    return factor * 2 ** (levels - 1)


def spatial_factor(config: MoVQConfig) -> int:
    """Pixels per latent position along height and along width."""
    return config.patch_size * 2 ** (len(config.channel_mult) - 1)


def latent_size(config: ModelConfig, size: tuple[int, int]) -> tuple[int, int]:
    """(h, w) of the latents of a video of `size`, (height, width) in pixels."""
    factor = spatial_factor(config.movq)
    return size[0] // factor, size[1] // factor
