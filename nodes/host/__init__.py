"""Everything the pack asks of ComfyUI; the only room that imports comfy.* or folder_paths.

A ComfyUI update is met here: what is touched of it (`comfy.internals`, checked before the rest is imported), folders,
memory and previews (`comfy`), our networks as MODEL, CLIP and VAE (`model`), and sampling (`sampling`). Below is what
the nodes ask of this room.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .comfy import internals

internals.check()

from .comfy.example_inputs import offer_example_inputs
from .comfy.frame_windows import frames_of
from .comfy.frontend import warn_of_old_frontend
from .comfy.keyframe_video import keyframe_video
from .comfy.model_files import (
    AUTO,
    BUNDLED,
    check_text_files,
    conditioning_file,
    conditioning_names,
    existing_conditioning,
    model_location,
    model_names,
    movq_file,
    movq_names,
    offer_bundled_loras,
    projection_file,
    projection_names,
    text_location,
    text_names,
    unet_file,
    unet_names,
)
from .comfy.stock_loaders import watch_stock_loaders
from .model.loaders import PRECISIONS, load_movq_file, load_parts, load_text_files, load_unet_file
from .model.temporal_choice import with_blocks
from .sampling.checks import (
    require_image_model,
    require_interpolation_model,
    require_keyframe_model,
    require_latents,
    require_our_model,
    require_our_vae,
    require_rates,
    require_text_model,
)
from .sampling.comfy_samplers import sampler_names, scheduler_names
from .sampling.conditioning_files import load_conditioning, save_conditioning
from .sampling.conditionings import (
    encode,
    encode_as_official_negative,
    first_frame_conditionings,
    interpolation_conditionings,
    interpolation_latents,
    text_conditionings,
)
from .sampling.first_frame_stage import augment_first_frame, draw_first_frame, encode_first_frame, sample_from_image
from .sampling.guided_frames import encode_guides, with_guides
from .sampling.model_values import VideoShape, own_settings, require_model_for_own, shape_of, video_shape
from .sampling.patches import with_loop, with_windows
from .sampling.prompt_schedule import schedule_conditionings
from .sampling.sampling_options import (
    DEFAULT,
    ImageSamplingInputs,
    SamplingInputs,
    image_sampling_options,
    sampling_options,
)
from .sampling.sampling_plan import plan
from .sampling.shown_values import show_sampling, show_values
from .sampling.stages import (
    decode,
    decode_windows,
    empty_latents,
    encode_frames,
    interpolate,
    interpolate_loop,
    keyframe_rate,
    sample_keyframes,
    to_video,
)

__all__ = [
    "AUTO",
    "BUNDLED",
    "DEFAULT",
    "PRECISIONS",
    "ImageSamplingInputs",
    "SamplingInputs",
    "VideoShape",
    "augment_first_frame",
    "check_text_files",
    "conditioning_file",
    "conditioning_names",
    "decode",
    "decode_windows",
    "draw_first_frame",
    "empty_latents",
    "encode",
    "encode_as_official_negative",
    "encode_first_frame",
    "encode_frames",
    "encode_guides",
    "existing_conditioning",
    "first_frame_conditionings",
    "frames_of",
    "image_sampling_options",
    "interpolate",
    "interpolate_loop",
    "interpolation_conditionings",
    "interpolation_latents",
    "keyframe_rate",
    "keyframe_video",
    "load_conditioning",
    "load_movq_file",
    "load_parts",
    "load_text_files",
    "load_unet_file",
    "model_location",
    "model_names",
    "movq_file",
    "movq_names",
    "offer_bundled_loras",
    "offer_example_inputs",
    "own_settings",
    "plan",
    "projection_file",
    "projection_names",
    "require_image_model",
    "require_interpolation_model",
    "require_keyframe_model",
    "require_latents",
    "require_model_for_own",
    "require_our_model",
    "require_our_vae",
    "require_rates",
    "require_text_model",
    "sample_from_image",
    "sample_keyframes",
    "sampler_names",
    "sampling_options",
    "save_conditioning",
    "schedule_conditionings",
    "scheduler_names",
    "sentence",
    "shape_of",
    "show_sampling",
    "show_values",
    "text_conditionings",
    "text_location",
    "text_names",
    "to_video",
    "unet_file",
    "unet_names",
    "video_shape",
    "warn_of_old_frontend",
    "watch_stock_loaders",
    "with_blocks",
    "with_guides",
    "with_loop",
    "with_windows",
]


class Told(str):
    """A sentence that is told once. ComfyUI marks every input that a check looked at and repeats for each what the
    check said; behind the first there is a reference to it.
    """

    __slots__ = ("_told",)

    def __str__(self) -> str:
        if getattr(self, "_told", False):
            return "see the sentence before"
        self._told = True
        return self[:]


def sentence(check: Callable[..., Any], *values: Any, **named: Any) -> bool | str:
    """Run a check for ComfyUI's validate_inputs: True, or the sentence of the ValueError that it raised.

    An input that comes from another node is None there: what needs its value has to be checked when the node runs.
    """
    if any(value is None for value in values):
        return True
    try:
        check(*values, **named)
    except ValueError as error:
        return Told(error)
    return True
