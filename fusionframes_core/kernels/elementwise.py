"""Arithmetic that writes its result over an operand, and takes the bias of the layer before along.

Fresh memory costs most beside the convolutions on a CPU; on a GPU a bias of its own costs a whole pass. The operand
that is written over is the last activation of each function, which nobody else may hold. It is kept where a gradient
needs an operand and where the two activations lie differently in memory; values are the same either way.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import fused_operations
from .kernel_choice import attempt, takes_fused


def silu(x: Tensor) -> Tensor:
    """SiLU; in place when no gradient needs its input."""
    return F.silu(x, inplace=not x.requires_grad)


class SiLU(nn.Module):
    """`silu` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        return silu(x)


def modulate(normed: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """normed · scale + shift, over `normed`."""
    return torch.addcmul(shift, normed, scale, out=_writable(normed, scale, shift))


def add_residual(x: Tensor, branch: Tensor, bias: Tensor | None = None) -> Tensor:
    """x + (branch + bias), over `branch`. x and branch (..., C, H, W); bias of the layer that made `branch`, (C,) or
    (T, h, w, C) as in `place_bias`."""
    out = _fused(x, branch, bias, None, False)
    if out is not None:
        return out
    branch = add_bias(branch, bias)
    return torch.add(x, branch, out=_same_layout(x, branch))


def merge_residual(
    spatial: Tensor,
    temporal: Tensor,
    alpha: Tensor,
    bias: Tensor | None = None,
    over: bool = False,
    past: Tensor | None = None,
) -> Tensor:
    """spatial + α · (temporal + bias) (paper, eq. 3), over `temporal`; alpha (1,), or one for each row.

    `bias` as in `add_residual`. `over`: over `spatial`, which nobody else may hold. `past` (C,): a bias that is still
    to be added both to `spatial` and to the result.
    """
    out = _fused(spatial, temporal, bias, alpha, False, over)
    if out is not None:
        return out
    temporal = add_bias(temporal, bias)
    place = spatial if over else _same_layout(spatial, temporal, alpha)
    return torch.addcmul(spatial, alpha, temporal, out=place)


def merge_convex(
    spatial: Tensor,
    temporal: Tensor,
    alpha: Tensor,
    bias: Tensor | None = None,
    over: bool = False,
    past: Tensor | None = None,
) -> Tensor:
    """(1 − α) · spatial + α · (temporal + bias) (the official code, against the paper's eq. 3), as `merge_residual`."""
    if past is not None:
        # (1 − α) · (x + p) + α · y is p more than (1 − α) · x + α · (y − p)
        bias = -past if bias is None else bias - past
    out = _fused(spatial, temporal, bias, alpha, True, over)
    if out is not None:
        return out
    temporal = add_bias(temporal, bias)
    place = spatial if over else _same_layout(spatial, temporal, alpha)
    return torch.lerp(spatial, temporal, alpha, out=place)


def _fused(
    x: Tensor, fresh: Tensor, bias: Tensor | None, weight: Tensor | None, convex: bool, over: bool = False
) -> Tensor | None:
    """One pass for all, None where there is no bias to take along or no kernel for it."""
    if bias is None or not takes_fused(x, fresh, bias, weight):
        return None
    return attempt(x, lambda: fused_operations.merge(x, fresh, bias, weight, convex, over))


MERGES: dict[str, Callable[..., Tensor]] = {"residual": merge_residual, "convex": merge_convex}
"""How a temporal layer's output is merged into the spatial one's, by `temporal_merge`: (spatial, temporal, α, bias,
over, past)."""


def add_bias(x: Tensor, bias: Tensor | None) -> Tensor:
    """x (..., C, H, W) + bias, as in `place_bias`, over x; x itself without one."""
    return x if bias is None else torch.add(x, place_bias(bias, x), out=_writable(x, bias))


def place_bias(bias: Tensor, x: Tensor) -> Tensor:
    """A bias as x (..., C, H, W) or what broadcasts to it: the same everywhere, (C,), or by place, (T, h, w, C).

    The rows of x are then the frames of videos of T; h and w are 1, or the first, an inner and the last position, as
    many as x has.
    """
    if bias.ndim == 1:
        return bias[:, None, None].to(x.dtype)
    for axis, size in ((1, x.shape[-2]), (2, x.shape[-1])):
        if bias.shape[axis] > 1:
            cells = [min(place, 1) + (place == size - 1 > 1) for place in range(size)]
            bias = bias.index_select(axis, torch.tensor(cells, device=bias.device))
    frames = bias.movedim(-1, 1).to(x.dtype)
    return frames.expand(-1, -1, *x.shape[-2:]).repeat(x[..., 0, 0, 0].numel() // len(frames), 1, 1, 1).view(x.shape)


def _writable(operand: Tensor, *others: Tensor) -> Tensor | None:
    """`operand` as an `out=` argument, None where it must be kept."""
    if torch.compiler.is_compiling():  # the compiler places results itself; out= would break its graph
        return None
    return None if any(tensor.requires_grad for tensor in (operand, *others)) else operand


def _same_layout(x: Tensor, operand: Tensor, *others: Tensor) -> Tensor | None:
    """The result has x's memory layout, in place or not: the convolutions behind it are chosen by that."""
    return _writable(operand, x, *others) if operand.stride() == x.stride() else None
