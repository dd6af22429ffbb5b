"""Frames that training can tell apart: hidden units of the frame embedding that are sharp functions of the position.

The embedding's sinusoids are made for times of diffusion: their fastest goes one radian from a frame's number to the
next, and random units of them are so smooth that over 16 frames all but a few of their combinations are nearly nil (of
the bundled model's 16 singular values the fifth was a twentieth of the first, the eleventh a thousandth). What changes
from one frame to the next, as the angle of a spinning star, is then learned thousands of steps later than what drifts.
Positions that are "spread" over 0…180, as in official 1.0, do not need this. It is ours: the paper has nothing of it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionframes_core.models.unet.unet_layers import ScalarEmbedding, sinusoidal

FREQUENCIES = 6  # the fastest, from 1 down to about a quarter of a radian per position
SPREAD = 3.0  # deviation over the frames of what a sharp unit's SiLU bends
BIAS = 1.5
SHARE = 4  # one unit in so many becomes sharp


@torch.no_grad()
def tell_frames_apart(embedding: ScalarEmbedding, positions: Tensor, generator: torch.Generator | None = None) -> None:
    """Make a quarter of `embedding`'s hidden units sharp, those that did least.

    What it gives at `positions` (T,) stays. The sharp units are random (`generator`, on the CPU; None: torch's global
    one) and as yet all but unused: their outputs only make up for what the replaced ones gave. Raises ValueError where
    a quarter are fewer than T.
    """
    inner, outer = embedding.linear_in, embedding.linear_out
    count = inner.out_features // SHARE
    if count < len(positions):
        raise ValueError(
            f"distinct_frames needs an embedding of at least {SHARE * len(positions)} units "
            f"for {len(positions)} frames; got {inner.out_features}"
        )
    weight, bias, output = (value.detach().double().cpu() for value in (inner.weight, inner.bias, outer.weight))
    waves = sinusoidal(positions.cpu(), embedding.dim).double()
    hidden = F.silu(waves @ weight.T + bias)
    varying = hidden - hidden.mean(dim=0)
    least = (varying.norm(dim=0) * output.norm(dim=0)).argsort()[:count]
    weight[least], bias[least] = _sharp_units(waves, count, generator)
    lost = varying[:, least] @ output[:, least].T
    offset = hidden[:, least].mean(dim=0) @ output[:, least].T
    sharp = F.silu(waves @ weight[least].T + bias[least])
    output[:, least] = torch.linalg.lstsq(sharp, lost, driver="gelsd").solution.T
    inner.weight.copy_(weight)
    inner.bias.copy_(bias)
    outer.weight.copy_(output)
    outer.bias.add_(offset.to(outer.bias))


def _sharp_units(waves: Tensor, count: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Weights (count, D) and biases (count,) over waves (T, D), float64: the fastest sines and cosines, far enough bent
    for multiples of their frequencies."""
    half = waves.shape[1] // 2
    weight = torch.zeros(count, waves.shape[1], dtype=torch.float64)
    for first in (0, half):
        chosen = slice(first, first + min(FREQUENCIES, half))
        weight[:, chosen] = torch.randn(weight[:, chosen].shape, generator=generator, dtype=torch.float64)
    spread = (waves @ weight.T).std(dim=0, correction=0)[:, None]
    drawn = torch.randn(count, generator=generator, dtype=torch.float64)
    return weight * SPREAD / spread.clamp(min=1e-6), drawn * BIAS
