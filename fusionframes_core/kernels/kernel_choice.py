"""Which calls the Triton kernels take: decided once for a device and a type, then by what a call needs.

Everything else takes torch's own operations: CPU, MPS, no Triton, a Triton that cannot build a kernel, bf16 on a card
without it, float64, operands that need gradients, autocast and `torch.compile` (which fuses by itself).
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

FUSED_TYPES = (torch.float16, torch.bfloat16, torch.float32)
BF16_CAPABILITY = 8  # Ampere

_decided: ContextVar[bool | None] = ContextVar("fused_kernels", default=None)
_failed: set[tuple[torch.device, torch.dtype]] = set()  # where a kernel that had not been tried out could not be built


@contextmanager
def fused_kernels(wanted: bool) -> Iterator[None]:
    """Inside, the choice by device is `wanted`: for tests in Triton's interpreter, meta tensors and comparisons."""
    token = _decided.set(wanted)
    try:
        yield
    finally:
        _decided.reset(token)


def takes_fused(x: Tensor, *operands: Tensor | None) -> bool:
    """Whether the fused kernels compute a result from `x` and `operands`."""
    if torch.compiler.is_compiling() or x.dtype not in FUSED_TYPES:
        return False
    decided = _decided.get()
    if not (kernels_still_run(x.device, x.dtype) if decided is None else decided):
        return False
    if x.is_cuda and torch.is_autocast_enabled("cuda"):
        return False
    needed = torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in (x, *operands))
    return not needed


def attempt(x: Tensor, work: Callable[[], Tensor]) -> Tensor | None:
    """`work()`, which runs a kernel; None where it cannot be built: from then on torch's own run, which is logged once.

    Kernels are built for what they are called with, so that one may fail though all have been tried out.
    """
    try:
        return work()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # as in `_problem`
        if _decided.get() is not None:
            raise
        _failed.add((x.device, x.dtype))
        _log(x.device, x.dtype, _sentence(error))
        return None


def kernels_still_run(device: torch.device, dtype: torch.dtype) -> bool:
    """`kernels_run`, and none of them has failed to build since."""
    return kernels_run(device, dtype) and (device, dtype) not in _failed


@cache
def kernels_run(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this device runs the Triton kernels in `dtype`; the reason why a GPU does not is logged once."""
    if device.type != "cuda" or dtype not in FUSED_TYPES:
        return False
    problem = _problem(device, dtype)
    if problem is not None:
        _log(device, dtype, problem)
    return problem is None


def _log(device: torch.device, dtype: torch.dtype, problem: str) -> None:
    logger.warning("Fused kernels are off for %s on %s: %s; torch's own are used.", dtype, device, problem)


def _sentence(error: Exception) -> str:
    return f"Triton cannot build them ({type(error).__name__}: {str(error).strip().partition(chr(10))[0]})"


def _problem(device: torch.device, dtype: torch.dtype) -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    capability = torch.cuda.get_device_capability(device)
    if dtype == torch.bfloat16 and capability[0] < BF16_CAPABILITY:
        return f"the GPU has no bf16 (compute capability {capability[0]}.{capability[1]})"
    try:
        from . import triton_kernels

        triton_kernels.try_out(device, dtype)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # Triton, the driver and the C compiler that Triton calls all have their own
        return _sentence(error)
    return None
