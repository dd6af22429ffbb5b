"""A fault of torch's that training on a CPU would meet in silence: wrong gradients of convolutions in bf16.

torch 2.13: where oneDNN computes them (processors with AVX512-BF16 or AMX), weight gradients of `conv3d` are off by any
factor, or infinite, for some shapes in some runs. No short trial finds that out for certain, and float32 is faster.
"""

from __future__ import annotations

import logging

from accelerate import Accelerator

logger = logging.getLogger(__name__)


def warn_of_wrong_gradients(accelerator: Accelerator) -> None:
    """Log, before a run begins, that bf16 may not train here; what is infinite stops it anyway."""
    if accelerator.device.type == "cpu" and accelerator.mixed_precision == "bf16":
        logger.warning(
            "mixed_precision should be no on a CPU: bf16 gradients of convolutions over time are wrong on some "
            "processors, and float32 is faster"
        )
