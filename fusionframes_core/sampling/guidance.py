"""Guidance as values: which predictions a step needs and how they combine.

Weights follow upstream's convention: `(1 + w)·c − w·u`, so w = 0 is no guidance (ComfyUI's cfg is 1 + w).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from ..models.casting import compute_dtype
from ..models.stage_memo import StageMemo
from ..models.text_encoder import TextContext

CONDITIONAL, IMAGE, UNCONDITIONAL = "conditional", "image", "unconditional"
"""The predictions of a step: with text (and image, and frames), with the image alone, with neither."""

Condition = TypeVar("Condition")


class Guidance(Protocol):
    """A guidance value: `batches` names the predictions that a step needs, in the order `combine` takes them."""

    @property
    def batches(self) -> tuple[str, ...]: ...

    def combine(self, predictions: Sequence[Tensor]) -> Tensor: ...


@dataclass(frozen=True)
class PredictionInput:
    """What one prediction of a step is conditioned on.

    `channels` (B, C', T, h, w), if given, join the noisy latents as further input channels (1.1's first frame).
    """

    condition: Any
    channels: Tensor | None = None


@dataclass(frozen=True)
class NoGuidance:
    """The conditional prediction alone."""

    @property
    def batches(self) -> tuple[str, ...]:
        return (CONDITIONAL,)

    def combine(self, predictions: Sequence[Tensor]) -> Tensor:
        (conditional,) = predictions
        return conditional


@dataclass(frozen=True)
class TextGuidance:
    """Classifier-free guidance `(1 + w)·c − w·u` (arXiv 2207.12598); u: the null or the negative prompt."""

    weight: float

    def __post_init__(self) -> None:
        _require_finite("weight", self.weight)

    @property
    def batches(self) -> tuple[str, ...]:
        return (CONDITIONAL, UNCONDITIONAL) if self.weight else (CONDITIONAL,)

    def combine(self, predictions: Sequence[Tensor]) -> Tensor:
        conditional = predictions[0]
        return (1 + self.weight) * conditional - self.weight * predictions[1] if self.weight else conditional


@dataclass(frozen=True)
class ContextGuidance(TextGuidance):
    """Context guidance of the interpolation model (paper, eq. 5); u: keyframes replaced by zeros."""


@dataclass(frozen=True)
class TextImageGuidance:
    """1.1 keyframes: `u + w_I (i − u) + w_T (c − i)`; c: text and image, i: image alone, u: neither."""

    text_weight: float
    image_weight: float

    def __post_init__(self) -> None:
        _require_finite("text_weight", self.text_weight)
        _require_finite("image_weight", self.image_weight)

    @property
    def batches(self) -> tuple[str, ...]:
        return (CONDITIONAL, IMAGE, UNCONDITIONAL)

    def combine(self, predictions: Sequence[Tensor]) -> Tensor:
        conditional, image, unconditional = predictions
        return unconditional + self.image_weight * (image - unconditional) + self.text_weight * (conditional - image)


class GuidedModel:
    """A network, its conditions and its guidance as one function `(x, t) -> prediction`, called once per step.

    Everything that does not change between steps is put together here, once: the conditions of all predictions,
    joined along the batch. `conditions[i]` belongs to `guidance.batches[i]`; `extra[i]` (B, C', T, h, w), if given,
    is appended to the network's input channels (1.1's image condition and mask). `joint` runs all predictions as one
    batch where memory allows; False runs them one after the other, in less memory.
    """

    def __init__(
        self,
        model: nn.Module,
        guidance: Guidance,
        conditions: Sequence[Any],
        extra: Sequence[Tensor] | None = None,
        joint: bool = True,
    ) -> None:
        if len(conditions) != len(guidance.batches):
            raise ValueError(f"guidance needs conditions for {guidance.batches}; got {len(conditions)}")
        self.model, self.guidance = model, guidance
        self.dtype = compute_dtype(model)
        self.conditions = conditions
        self.extra = [channels.to(self.dtype) for channels in extra] if extra else None
        self._arrange(joint)

    def _arrange(self, joint: bool) -> None:
        """Join the conditions (and extra channels) of the predictions that run as one batch."""
        count = len(self.conditions)
        groups = [range(count)] if joint else [range(i, i + 1) for i in range(count)]
        self.calls = [
            (
                len(group),
                with_memo(join_conditions([self.conditions[i] for i in group])),
                None if self.extra is None else torch.cat([self.extra[i] for i in group]),
            )
            for group in groups
        ]

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """The guided prediction, float32, for x (B, C, T, h, w) at network times t (B,)."""
        if len(self.calls) == 1 < len(self.conditions):
            try:
                return self._combine(x, t)
            except torch.OutOfMemoryError:
                self._arrange(joint=False)  # for this step and all that follow
        return self._combine(x, t)

    def _combine(self, x: Tensor, t: Tensor) -> Tensor:
        predictions: list[Tensor] = []
        for copies, condition, extra in self.calls:
            inputs = torch.cat([x.to(self.dtype)] * copies)
            if extra is not None:
                inputs = torch.cat([inputs, extra], dim=1)
            output = self.model(inputs, torch.cat([t] * copies), condition).float()
            predictions.extend(output.chunk(copies))
        return self.guidance.combine(predictions)


def guided_model(unet: nn.Module, guidance: Guidance, inputs: Mapping[str, PredictionInput]) -> GuidedModel:
    """The guided network, with those `inputs`, by the prediction's name, that the guidance needs.

    Contexts and keyframes are cast to the network's dtype here, once; masks, times and positions stay as they are.
    """
    dtype = compute_dtype(unet)
    needed = [inputs[name] for name in guidance.batches]
    channels = [entry.channels for entry in needed if entry.channels is not None]
    return GuidedModel(unet, guidance, [_cast(entry.condition, dtype) for entry in needed], channels)


def _cast(condition: Any, dtype: torch.dtype) -> Any:
    names = [name for name in ("context", "keyframes") if hasattr(condition, name)]
    return replace(condition, **{name: getattr(condition, name).to(dtype) for name in names})


def with_memo(condition: Any) -> Any:
    """The same condition with a fresh memo of what all steps have in common, if it has a place for one."""
    return replace(condition, memo=StageMemo()) if hasattr(condition, "memo") else condition


def with_text(condition: Condition, text: TextContext) -> Condition:
    """The same condition (a dataclass with `context` and `mask`) with another text."""
    return replace(condition, context=text.context, mask=text.mask)  # type: ignore[type-var]


def join_conditions(conditions: Sequence[Condition]) -> Condition:
    """Concatenate condition dataclasses of one class along the batch; contexts are padded to the longest.

    Raises ValueError when a field is a tensor in one and something else in another, or differs as a plain value.
    """
    first = conditions[0]
    fields = [field.name for field in dataclasses.fields(first)]  # type: ignore[arg-type]
    joined = {name: _join(name, [getattr(condition, name) for condition in conditions]) for name in fields}
    return replace(first, **joined)  # type: ignore[type-var]


def _join(name: str, values: Sequence[Any]) -> Any:
    if all(isinstance(value, Tensor) for value in values):
        if name in ("context", "mask"):
            values = _pad_tokens(values)
        return torch.cat(list(values))
    if any(isinstance(value, Tensor) for value in values) or any(value != values[0] for value in values):
        raise ValueError(f"cannot join conditions whose {name} differ: {[type(value).__name__ for value in values]}")
    return values[0]


def _pad_tokens(values: Sequence[Tensor]) -> list[Tensor]:
    """Pad (B, N, ...) with zeros (False in a mask) to the longest N."""
    longest = max(value.shape[1] for value in values)
    padding = [value.new_zeros(value.shape[0], longest - value.shape[1], *value.shape[2:]) for value in values]
    return [torch.cat([value, pad], dim=1) for value, pad in zip(values, padding, strict=True)]


def _require_finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number; got {value}")
