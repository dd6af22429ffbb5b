"""Stock guidances that look at single images, over the frames of a video."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.model_patcher
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor

from ....fusionframes_core.models.unet.interpolation_unet import merge_groups, split_groups
from ..model.hosted_models import InterpolationModel
from .patches import HANDLER

KEY = "fusionframes frames"
OF_IMAGES = ("SelfAttentionGuidance",)
"""Beginnings of the names of functions that run after guidance and take images only."""
Guidance = Callable[[dict[str, Any]], Tensor]


@dataclass(frozen=True)
class Frames:
    """The images (N, C, h, w) that a U-Net of ours attends within, and the video (B, 4, T, h, w) that they make.

    Of interpolation the images are the groups of three new frames; the given frames are not among them.
    """

    video: Tensor
    groups: bool

    def fold(self, video: Tensor) -> Tensor:
        """A video as images."""
        parts = split_groups(video)[1] if self.groups else video
        return parts.transpose(1, 2).flatten(0, 1)

    def unfold(self, images: Tensor) -> Tensor:
        """Images as the video, with its given frames."""
        parts = images.unflatten(0, (self.video.shape[0], -1)).transpose(1, 2)
        return merge_groups(self.video[:, :, ::4], parts) if self.groups else parts


def take_frames(model: Any, model_options: dict[str, Any]) -> None:
    """Let every stock guidance of `model_options` that takes images have a video's frames as such.

    Raises ValueError in context windows: such a guidance keeps the attention of one prediction for the whole video.
    """
    functions = model_options.get("sampler_post_cfg_function", [])
    if not any(_is_of_images(function) for function in functions):
        return
    if HANDLER in model_options:
        raise ValueError(
            "Self-Attention Guidance needs the attention of all frames at once, and context windows make them apart: "
            "use Perturbed-Attention Guidance with Long Video and Context Windows"
        )
    groups = isinstance(model, InterpolationModel)
    model_options["sampler_post_cfg_function"] = [
        over_frames(function, groups) if _is_of_images(function) else function for function in functions
    ]


def over_frames(guidance: Guidance, groups: bool) -> Guidance:
    """A guidance of images as one of videos; the predictions that it asks for are the video's."""

    def guided(told: dict[str, Any]) -> Tensor:
        frames = Frames(told["denoised"], groups)

        def predict(executor: Any, model: Any, conds: Any, x: Tensor, *more: Any) -> list[Tensor]:
            noisy = Frames(told["input"], groups).unfold(x)
            return [frames.fold(prediction) for prediction in executor(model, conds, noisy, *more)]

        options = comfy.model_patcher.create_model_options_clone(told["model_options"])
        add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, predict, options, is_model_options=True)
        images = {name: frames.fold(told[name]) for name in ("denoised", "uncond_denoised", "input")}
        return frames.unfold(guidance({**told, **images, "model_options": options}))

    return guided


def _is_of_images(function: Any) -> bool:
    return getattr(function, "__qualname__", "").startswith(OF_IMAGES)
