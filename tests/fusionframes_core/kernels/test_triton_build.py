"""Every kernel builds to machine code for the GPUs that people have, on a machine without one.

What it takes of a GPU is read from that code: no register is spilled to memory, so that nothing crawls, and several
programs fit beside each other on a processor.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest

# In a process of its own: the tests beside this one have Triton in its interpreter.
BUILD = """
import json, re, subprocess, sys, tempfile
from pathlib import Path
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from fusionframes_core.kernels import triton_kernels as kernels

CAPABILITY, DTYPE, FLAGS, TOOL = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "True", sys.argv[4]
COLUMNS = kernels.MOST_CHANNELS
POINTERS = ("x", "fresh", "out", "bias", "weight", "scale", "shift", "input_bias")
TYPES = dict.fromkeys(POINTERS, "*" + DTYPE) | dict.fromkeys(("means", "squares", "mean", "rstd"), "*fp32")
TYPES |= dict.fromkeys(("eps", "offset", "factor"), "fp32") | {"scores": "*fp32"}
CHOICES = ("HAS_INPUT_BIAS", "AFFINE", "MODULATED", "PLACED", "SILU", "WEIGHTED", "CONVEX", "EDGES")
NUMBERS = {kernels._finish: kernels.FINISHED}
LENGTHS = {kernels._softmax: kernels.TILE}
for kernel in (kernels._moments, kernels._finish, kernels._apply, kernels._merge, kernels._softmax):
    columns = LENGTHS.get(kernel, COLUMNS)
    constants = {"ROWS": NUMBERS.get(kernel, kernels.TILE) // columns, "COLUMNS": columns}
    constants |= dict.fromkeys(CHOICES, FLAGS)
    constants = {name: constants[name] for name in kernel.arg_names if name in constants}
    signature = {name: "constexpr" if name in constants else TYPES.get(name, "i32") for name in kernel.arg_names}
    aligned = [name for name in kernel.arg_names if signature[name][0] == "*" or name in ("channels", "length")]
    attributes = {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    source = ASTSource(kernel, signature, constexprs=constants, attrs=attributes)
    target = GPUTarget("cuda", CAPABILITY, 32)
    built = triton.compile(source, target=target, options={"num_warps": kernels.WARPS})
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder, "kernel.cubin")
        code.write_bytes(built.kernel)
        said = subprocess.run([TOOL, "-res-usage", code], capture_output=True, text=True, check=True).stdout
    usage = {name: int(number) for name, number in re.findall("(REG|STACK|LOCAL|SHARED):(\\\\d+)", said)}
    print(json.dumps({"kernel": kernel.__name__, "wide": built.asm["ptx"].count(".v4.b32"), **usage}))
"""
CARDS = ((75, "fp16", True), (80, "bf16", True), (90, "bf16", False), (90, "bf16", True), (90, "fp32", True),
         (120, "bf16", True))  # fmt: skip
REGISTERS, SHARED = 65536, 48 * 1024  # of one processor; what a program may have without asking
LEAST = 3  # programs beside each other


@pytest.mark.slow
@pytest.mark.parametrize(("capability", "dtype", "flags"), CARDS)
def test_kernels_build(capability: int, dtype: str, flags: bool, tmp_path: str) -> None:
    found = importlib.util.find_spec("triton")
    if found is None or found.origin is None:
        pytest.skip("triton is not installed: pip install triton (Linux on x86-64)")
    tool = os.path.join(os.path.dirname(found.origin), "backends", "nvidia", "bin", "cuobjdump")
    if not os.path.isfile(tool):
        pytest.skip(f"this triton has no cuobjdump at {tool}")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    command = [sys.executable, "-W", "ignore", "-c", BUILD, str(capability), dtype, str(flags), tool]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert answer.returncode == 0, answer.stderr[-2000:]
    kernels = [json.loads(line) for line in answer.stdout.splitlines()]
    assert [usage["kernel"] for usage in kernels] == ["_moments", "_finish", "_apply", "_merge", "_softmax"]
    for usage in kernels:
        assert usage["STACK"] == usage["LOCAL"] == 0, f"registers are spilled: {usage}"
        assert usage["SHARED"] <= SHARED, usage
        assert usage["REG"] * 128 * LEAST <= REGISTERS, usage  # 4 warps of 32 threads
        assert usage["wide"] or usage["kernel"] == "_finish", f"loads of single numbers: {usage}"
