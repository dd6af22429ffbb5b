"""CONDITIONINGs for our models: pairs and triples for guidance, and what our nodes add to an encoded prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ....fusionframes_core.config import TextEncoderConfig
from ....fusionframes_core.models.text_encoder import IGNORED, OWN, tokens_as_prompt
from ....fusionframes_core.models.unet.interpolation_unet import linear_blend
from ....fusionframes_core.sampling.first_frame import FirstFrame
from ....fusionframes_core.sampling.options import InterpolationOptions
from ..model.clip import ROW
from ..model.hosted_models import SETTINGS


@dataclass(frozen=True)
class ConditioningPair:
    """The CONDITIONINGs of classifier-free guidance: `negative` is the negative prompt's, or the null context."""

    positive: Any
    negative: Any


@dataclass(frozen=True)
class FirstFrameConditionings:
    """The CONDITIONINGs of 1.1's three-way guidance: text and first frame, the first frame alone, neither."""

    positive: Any
    image_only: Any
    negative: Any


def text_conditionings(text: Any, negative: Any | None) -> ConditioningPair:
    """The pair of an encoded prompt and a negative one; without that the null context."""
    return ConditioningPair(text, negative or unconditional(text))


def encode(clip: Any, prompt: str) -> Any:
    """A prompt through any CLIP."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(prompt))


def encode_as_official_negative(clip: Any, prompt: str, of: Any) -> Any:
    """A negative prompt through a CLIP of ours, as the model's official code reads it beside the conditioning `of`.

    1.0 gives it the prompt's length and mask; 1.1 ignores it. Raises ValueError for another CLIP.
    """
    config = getattr(clip.patcher.model, "config", None)
    if not isinstance(config, TextEncoderConfig):
        raise ValueError(
            "clip must come from FusionFrames Load Model or Load Text Encoder to read a negative prompt so"
        )
    if config.official_negative == OWN:
        return encode(clip, prompt)
    if config.official_negative == IGNORED or not prompt:
        return unconditional(of)
    tokens = clip.tokenize(prompt)
    count = int(of[0][1]["attention_mask"].sum()) if of[0][0].any() else 1
    rows = [[token for token, _ in row] for row in tokens[ROW]]
    return clip.encode_from_tokens_scheduled(
        {ROW: [[(token, 1.0) for token in tokens_as_prompt(row, count)] for row in rows]}
    )


def unconditional(like: Any) -> Any:
    """The null context with as many tokens as another conditioning has: zeros, which our models replace."""
    return [[torch.zeros_like(like[0][0]), {}]]


def interpolation_conditionings(text: Any | None, options: InterpolationOptions) -> ConditioningPair:
    """The pair of context guidance: the network sees the given frames (and the text, if it reads any), or neither."""
    numbers = {"skip_frames": options.skip_frames, "perturbation": options.perturbation}
    entries = text or [[None, {}]]
    positive = [[context, {**_timeless(entry), SETTINGS: {**numbers, "informed": True}}] for context, entry in entries]
    null = unconditional(text)[0][0] if text else None
    return ConditioningPair(positive, [[null, {SETTINGS: {**numbers, "informed": False}}]])


def interpolation_latents(frames: Tensor) -> Tensor:
    """Frames (B, 4, T, h, w) in every fourth place of latents (B, 4, 4T − 3, h, w), blended between them."""
    return linear_blend(frames.float())


def still_conditionings(pair: ConditioningPair) -> ConditioningPair:
    """The pair for a still from a keyframe model, whose temporal parts are skipped then."""
    settings = {"still": True}
    return ConditioningPair(_with(pair.positive, settings), _with(pair.negative, settings))


def first_frame_conditionings(pair: ConditioningPair, first: FirstFrame) -> FirstFrameConditionings:
    """1.1's three conditions for keyframes that continue a first frame of one video."""
    scores = {"motion_score": first.motion_score, "noise_augmentation": first.noise_augmentation}
    given = {"first": first.latent, **scores}
    return FirstFrameConditionings(
        _with(pair.positive, given), _with(pair.negative, given), _with(pair.negative, scores)
    )


def _with(conditioning: Any, settings: dict[str, Any]) -> Any:
    """A CONDITIONING whose every entry brings these settings for our models."""
    return [[context, {**options, SETTINGS: settings}] for context, options in conditioning]


def _timeless(options: dict[str, Any]) -> dict[str, Any]:
    """Without a schedule's mask, which counts keyframes."""
    return {key: value for key, value in options.items() if key != "mask"}
