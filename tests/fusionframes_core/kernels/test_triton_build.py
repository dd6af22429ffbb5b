"""Every kernel builds to machine code for the GPUs that people have, on a machine without one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

# In a process of its own: the tests beside this one have Triton in its interpreter.
BUILD = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from fusionframes_core.kernels import triton_kernels as kernels

TYPES = dict.fromkeys(("x", "fresh", "out", "bias", "weight", "scale", "shift", "input_bias"), "*{dtype}")
TYPES |= dict.fromkeys(("means", "squares", "mean", "rstd"), "*fp32") | dict.fromkeys(("eps", "offset"), "fp32")
FLAGS = dict.fromkeys(
    ("HAS_INPUT_BIAS", "AFFINE", "MODULATED", "PLACED", "SILU", "WEIGHTED", "CONVEX"), {flags})
for kernel in (kernels._moments, kernels._finish, kernels._apply, kernels._merge):
    constants = {{"ROWS": 32, "COLUMNS": 128}} | FLAGS
    constants = {{name: constants[name] for name in kernel.arg_names if name in constants}}
    signature = {{
        name: "constexpr" if name in constants else TYPES.get(name, "i32") for name in kernel.arg_names}}
    source = ASTSource(kernel, signature, constexprs=constants)
    built = triton.compile(source, target=GPUTarget({target}), options={{"num_warps": kernels.WARPS}})
    print(kernel.__name__, len(built.kernel))
"""
TARGETS = {"sm_75": '"cuda", 75, 32', "sm_80": '"cuda", 80, 32', "sm_90": '"cuda", 90, 32', "sm_120": '"cuda", 120, 32'}


@pytest.mark.slow
@pytest.mark.parametrize("flags", [False, True])
@pytest.mark.parametrize("target", TARGETS)
def test_kernels_build(target: str, flags: bool, tmp_path: str) -> None:
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed: pip install triton (Linux on x86-64)")
    dtype = "fp16" if target == "sm_75" else "bf16"
    script = BUILD.format(target=TARGETS[target], flags=flags, dtype=dtype)
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, env=environment, check=False
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    assert [int(line.split()[1]) > 1000 for line in answer.stdout.splitlines()] == [True] * 4
