"""Where the Triton kernels run in these tests: on a GPU, else in Triton's interpreter on the CPU.

Triton reads TRITON_INTERPRET when it is imported, so that happens here, before any test can import it without.
"""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest
import torch

INTERPRET = "TRITON_INTERPRET"


def _place() -> tuple[str | None, str]:
    """The device that runs the kernels, or None and why there is none."""
    if importlib.util.find_spec("triton") is None:
        return None, "triton is not installed: pip install triton (Linux on x86-64)"
    if torch.cuda.is_available():
        return "cuda", ""
    if "triton" in sys.modules and INTERPRET not in os.environ:
        return None, f"no GPU, and triton was imported without {INTERPRET}=1"
    before = os.environ.get(INTERPRET)
    os.environ[INTERPRET] = "1"
    importlib.import_module("fusionframes_core.kernels.triton_kernels")
    if before is None:
        del os.environ[INTERPRET]
    return "cpu", ""


DEVICE, REASON = _place()


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> str:
    """The device that runs the kernels."""
    if DEVICE is None:
        pytest.skip(REASON)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # torch's default, of about ten bits
    if DEVICE == "cpu":
        monkeypatch.setenv(INTERPRET, "1")  # Triton reads it again when a kernel runs
    return DEVICE
