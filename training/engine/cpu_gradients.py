"""A fault of torch's that training on a CPU would meet in silence: wrong gradients of convolutions over time in bf16.

torch 2.13 on a processor with AVX512-BF16: weight gradients of `conv3d` whose kernel is longer than one frame are off
by any factor, or infinite, where oneDNN computes them. torch's own kernels are right and slower than float32.
"""

from __future__ import annotations

import logging
from functools import cache

import torch
from accelerate import Accelerator

logger = logging.getLogger(__name__)

TRIALS = 20  # of which some came out right where the fault was seen
TOLERANCE = 0.05  # of the gradient's norm; bf16 rounds to 0.004


@cache
def convolutions_over_time_are_right() -> bool:
    """Whether the CPU's gradients in bf16 are those in float32, rounded; in some tenths of a second."""
    generator = torch.Generator().manual_seed(0)
    return all(gradient_error(generator) <= TOLERANCE for _ in range(TRIALS))


def gradient_error(generator: torch.Generator) -> float:
    """Of one weight gradient, relative to its norm; NaN or infinity where it is not finite."""
    x, weight = torch.randn(1, 16, 2, 16, 16, generator=generator), torch.randn(16, 16, 3, 1, 1, generator=generator)
    right, found = (
        torch.autograd.grad(torch.conv3d(x.to(dtype), kernel, padding=(1, 0, 0)).float().square().mean(), kernel)[0]
        for dtype in (torch.float32, torch.bfloat16)
        for kernel in (weight.to(dtype).requires_grad_(),)
    )
    return float((found.float() - right).norm() / right.norm())


def warn_of_wrong_gradients(accelerator: Accelerator) -> None:
    """Log, before a run begins, that bf16 will not train here; what is infinite stops it anyway."""
    in_bf16 = accelerator.device.type == "cpu" and accelerator.mixed_precision == "bf16"
    if in_bf16 and not convolutions_over_time_are_right():
        logger.warning(
            "mixed_precision should be no on this processor: torch %s computes wrong bf16 gradients of convolutions "
            "over time on it",
            torch.__version__,
        )
