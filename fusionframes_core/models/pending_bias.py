"""Residual additions and biases that need no pass of their own on a GPU.

A product adds itself to the activation that it belongs to. Its bias cannot ride there too, but goes on past the blocks
behind: their norms take it along as an `input_bias`, a residual addition changes nothing about it, and where a layer
needs the sum it is added. Functions here say of an activation what is still to be added to it: a bias (C,), or None.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..kernels.elementwise import add_bias, add_residual
from ..kernels.kernel_choice import takes_fused
from .layers import (
    FastConv2d,
    FastConv3d,
    FastLinear,
    bias_behind,
    is_hooked,
    is_pointwise,
    sees_every_tap,
    without_bias,
)
from .layout import fold_frames, from_tokens, to_tokens, unfold_frames
from .stage_memo import StageMemo, once


def add_product(x: Tensor, layer: nn.Module, fresh: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """(x + bias) + layer(fresh), for a matrix or a convolution of kernel 1, and what is still to be added to it.

    x (N, C', H, W), which nobody else may hold, fresh (N, C, H, W). Where the fused kernels run the product adds itself
    to x, so that neither its result nor the sum is a pass.
    """
    if not _adds_itself(layer, x, fresh):
        return add_residual(x, _applied(layer, fresh)), bias
    with layer.lent_weights(fresh) as (weight, own):  # type: ignore[operator]
        rows = [part.movedim(1, -1).flatten(0, 2) for part in (x, fresh)]
        rows[0].addmm_(rows[1], weight.flatten(1).t())
    return x, joined(bias, own)


def _adds_itself(layer: nn.Module, x: Tensor, fresh: Tensor) -> bool:
    if not isinstance(layer, FastLinear | FastConv2d | FastConv3d) or is_hooked(layer):
        return False
    if not isinstance(layer, FastLinear) and not is_pointwise(layer):
        return False
    if torch.is_grad_enabled() or x.dtype != fresh.dtype:
        return False  # a checkpoint may hold x, as in `convolved`; a host's patch may give another type
    lies = x.is_contiguous(memory_format=torch.channels_last)
    return lies and takes_fused(x, fresh, layer.weight, layer.bias)


def _applied(layer: nn.Module, fresh: Tensor) -> Tensor:
    """layer(fresh) of (N, C, H, W), for a matrix or a convolution of kernel 1."""
    if isinstance(layer, nn.Linear):
        return from_tokens(layer(to_tokens(fresh)), *fresh.shape[2:])
    return fold_frames(layer(unfold_frames(fresh, 1))) if isinstance(layer, nn.Conv3d) else layer(fresh)


def joined(bias: Tensor | None, own: Tensor | None) -> Tensor | None:
    """The sum of a bias (C,) and a layer's own, float32, since many may come together.

    A new tensor: the layer's weights may leave the device, or be taken back by a host, before the bias is added.
    """
    if own is None:
        return bias
    return own.to(torch.float32, copy=True) if bias is None else bias.float() + own.float()


def convolved(
    layer: nn.Module, x: Tensor, bias: Tensor | None, memo: StageMemo | None = None
) -> tuple[Tensor, Tensor | None]:
    """layer(x + bias) for x (N, C, H, W), and what is still to be added to it. With a memo, what becomes of the bias is
    computed once."""
    carries = isinstance(layer, FastConv2d) and not is_hooked(layer) and sees_every_tap(layer)
    if bias is None or not carries:
        # A checkpoint may hold x, to compute the block again.
        kept = x if bias is None or not torch.is_grad_enabled() else x.clone()
        out, own = without_bias(layer, add_bias(kept, bias))
        return out, joined(None, own)
    out, own = without_bias(layer, x)
    return out, joined(once(memo, ("behind", layer), lambda: bias_behind(layer, bias)), own)
