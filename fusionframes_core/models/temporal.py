"""What a video model has and its image model has not: one base class, one switch, one start as an identity.

The paper inserts temporal parts into a pretrained image model (section 4.1, appendix 9, section 4.3). Each starts as an
identity, so that a fresh video model gives the image model's output frame by frame, and is trained from there.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from ..kernels.elementwise import add_bias
from .edge_bias import carries_bias


class BlockCondition(Protocol):
    """What the conditions of both families of blocks say of time."""

    @property
    def num_frames(self) -> int:
        """T: how the rows (B·T) of an activation make videos."""

    @property
    def temporal(self) -> bool:
        """False skips every temporal layer: the frames are independent images."""


Condition = TypeVar("Condition", bound=BlockCondition)


class Skip(nn.Module):
    """A block that is not there: the input, whatever the condition."""

    def forward(self, x: Tensor, condition: object) -> Tensor:
        return x


class NeutralNorm(nn.Module, ABC):
    """Base of the norms: each can be made neutral, its output the normalised input whatever it is conditioned on."""

    @abstractmethod
    def make_neutral(self) -> None:
        """Scale one and shift zero."""


class TemporalPart(nn.Module, ABC):
    """Base of everything that the image model does not have."""

    def temporal_parameters(self, prefix: str) -> Iterator[tuple[str, nn.Parameter]]:
        """Names, under `prefix`, and parameters that train with the temporal parts: all of them."""
        return self.named_parameters(prefix)

    def drawn_layers(self) -> list[nn.Module]:
        """The layers that get random weights before some are set to zero, in the order of the draws."""
        return [layer for layer in self.modules() if isinstance(layer, _DRAWN)]

    @abstractmethod
    def zero_layers(self) -> list[nn.Module]:
        """The layers that are zero while this part is an identity: the last ones, or the merge weights α."""

    def initialise_identity(self, generator: torch.Generator | None = None) -> None:
        """Random weights, neutral norms, zero last layers: the part gives back its input and can still be trained."""
        for layer in self.drawn_layers():
            draw_weights(layer, generator)
        for norm in self.modules():
            if isinstance(norm, NeutralNorm):
                norm.make_neutral()
        for layer in self.zero_layers():
            zero_weights(layer)


class TemporalLayer(TemporalPart, Generic[Condition]):
    """Base of the layers over time, which the condition's `temporal` switches."""

    def forward(self, x: Tensor, condition: Condition) -> Tensor:
        return self.mix_frames(x, condition) if condition.temporal else x

    @abstractmethod
    def mix_frames(self, x: Tensor, condition: Condition) -> Tensor:
        """(B·T, C, H, W), shape kept; the input as an identity."""


class TemporalBlock(TemporalLayer[Condition]):
    """Base of blocks over time that take along a bias which is still to be added to their input: see `pending_bias`."""

    def forward(  # type: ignore[override]
        self, x: Tensor, condition: Condition, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Of x + bias, (B·T, C, H, W), which nobody else may hold, and the bias (C,) still to be added to that."""
        return self.mix_frames(x, condition, bias) if condition.temporal else (x, bias)

    @abstractmethod
    def mix_frames(  # type: ignore[override]
        self, x: Tensor, condition: Condition, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """As `forward`."""


class TemporalConvolution(TemporalLayer[Condition]):
    """Base of the layers that are one convolution over time and a merge: a bias of their input goes past them."""

    projection: nn.Module

    def forward(self, x: Tensor, condition: Condition, bias: Tensor | None = None) -> Tensor:
        """Of x + bias, (B·T, C, H, W), without the bias (C,), which is still to be added to the result."""
        return self.mix_frames(x, condition, bias) if condition.temporal else x

    @abstractmethod
    def mix_frames(self, x: Tensor, condition: Condition, bias: Tensor | None = None) -> Tensor:
        """As `forward`."""

    def past(self, x: Tensor, condition: Condition, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Of x + bias, and what is still to be added to it: the bias, or None where it had to be added first."""
        if bias is not None and not carries_bias(self.projection, x):
            x, bias = add_bias(x, bias), None
        return self(x, condition, bias), bias


def is_absent(layer: nn.Module, condition: BlockCondition) -> bool:
    """Whether a layer gives back its input here."""
    skipped = isinstance(layer, TemporalLayer) and not condition.temporal
    return skipped or isinstance(layer, Skip | nn.Identity)


def temporal_parts(model: nn.Module) -> Iterator[tuple[str, TemporalPart]]:
    """The temporal parts of a model and their names; none lies inside another."""
    for name, module in model.named_modules():
        if isinstance(module, TemporalPart):
            yield name, module


def temporal_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Names and parameters of everything that the image model does not have: what "temporal only" training trains."""
    for name, part in temporal_parts(model):
        yield from part.temporal_parameters(name)


def initialise_temporal(model: nn.Module, generator: torch.Generator | None = None) -> None:
    """Make every temporal part an identity: the video model then gives the image model's output for each frame.

    `generator` (on the CPU; None: torch's global one) draws the weights that an identity leaves free.
    """
    for _, part in temporal_parts(model):
        part.initialise_identity(generator)


_DRAWN = (nn.Linear, nn.Conv2d, nn.Conv3d, nn.Embedding)


@torch.no_grad()
def draw_weights(layer: nn.Module, generator: torch.Generator | None = None) -> None:
    """torch's first weights of a layer: uniform in ±1/√(inputs per output), or normal for an embedding.

    They are drawn on the CPU, so that a seed means the same on every device.
    """
    bound = 1 / math.sqrt(layer.get_parameter("weight")[0].numel())
    for parameter in layer.parameters(recurse=False):
        drawn = torch.empty(parameter.shape)
        if isinstance(layer, nn.Embedding):
            drawn.normal_(generator=generator)
        else:
            drawn.uniform_(-bound, bound, generator=generator)
        parameter.copy_(drawn)


@torch.no_grad()
def zero_weights(layer: nn.Module) -> None:
    """Zero a layer's weight and bias."""
    for parameter in layer.parameters(recurse=False):
        parameter.zero_()
