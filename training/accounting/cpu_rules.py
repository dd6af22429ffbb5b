"""What torch's kernels on a CPU take for themselves, which no tensor accounts for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

OPERANDS = {torch.ops.aten.convolution: (0, 1), torch.ops.aten.convolution_backward: (1, 2)}
"""Which arguments are a convolution's input and kernel."""


ONEDNN_ABOVE = 20480
"""Of a single input: product of its channels, frames and height up to which torch takes its own kernel (`use_mkldnn`
in ATen's Convolution.cpp)."""


def cpu_scratch(operation: Any, arguments: Sequence[Any]) -> int:
    """Bytes of an operation's scratch: over small inputs 3-D kernels are products with the unfolded input.

    Every number of the input is there once for each place of the kernel, forward and backward (ATen's slow_conv3d).
    Larger inputs go to oneDNN, and kernels over time alone run as 2-D convolutions: those need none to speak of.
    """
    if operation not in OPERANDS:
        return 0
    x, weight = (arguments[place] for place in OPERANDS[operation])
    if weight.ndim != 5 or tuple(weight.shape[3:]) == (1, 1):
        return 0
    if len(x) > 1 or math.prod(x.shape[:4]) > ONEDNN_ABOVE:
        return 0
    return math.prod(weight.shape[1:]) * math.prod(x.shape[2:]) * x.element_size()
