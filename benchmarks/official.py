"""Our code beside the official KandinskyVideo code: which stages, in which types, on which device.

KANDINSKY_VIDEO_PATH names the official work trees, separated as in PATH: branch `kandinsky_video_1_0` (1.0) and `main`
(1.1). Nothing of them is imported but their networks.

On a CPU the official code runs in float32, which is what it runs in there: 1.0 by default, 1.1's decoder always, and
1.1's U-Nets have half precision for CUDA alone. On a GPU it runs in its defaults: 1.1's U-Nets in float16, the rest in
float32.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import torch

from benchmarks.harness import Case, Sides
from benchmarks.official_stages import FULL, MIDDLE, SMALL, STAGES, VARIABLE, Setting, work_trees

__all__ = ["VARIABLE", "has_bf16", "official_cases", "work_trees"]

CPU_FLAGS = Path("/proc/cpuinfo")
BF16_FLAGS = {"amx_bf16", "avx512_bf16"}
FORCE_BF16 = "FUSIONFRAMES_BENCH_BF16"  # runs the bf16 cases on a CPU without such instructions too
F32, BF16 = 1e-4, 2e-2  # largest difference of the results
# At 512x512 (FULL): work of one guided keyframe step, one guided interpolation step, eight frames of conv3_attn.
TERAFLOP = {("keyframe step", "1.0"): 31.0, ("interpolation step", "1.0"): 34.0, ("interpolation step", "1.1"): 34.0}
TERAFLOP |= {("decoder", "1.1"): 181.0}


def has_bf16() -> bool:
    """Whether this CPU multiplies in bf16."""
    flags = CPU_FLAGS.read_text().split() if CPU_FLAGS.is_file() else []
    return not BF16_FLAGS.isdisjoint(flags)


def official_cases() -> tuple[Case, ...]:
    """The cases that the work trees and the device at hand allow."""
    cases: list[Case] = []
    for stage in STAGES:
        for version in work_trees():
            cases.append(_cpu(stage, version, torch.float32, F32))
            if has_bf16() or os.environ.get(FORCE_BF16):
                cases.append(_cpu(stage, version, torch.bfloat16, BF16))
            if torch.cuda.is_available():
                cases.append(_gpu(stage, version))
    return tuple(cases)


def _cpu(stage: str, version: str, dtype: torch.dtype, tolerance: float) -> Case:
    setting = Setting(MIDDLE, dtype=dtype)
    half = dtype != torch.float32
    name = f"official {version} {stage}" + (", bf16" if half else "")
    baseline = "official code" + (" in float32" if half else "")
    work = partial(_build, stage, version, setting)
    return Case(name, "ours", baseline, work, tolerance, memory=True)


def _gpu(stage: str, version: str) -> Case:
    default = torch.float16 if version == "1.1" and stage != "decoder" else torch.float32
    setting = Setting(FULL, "cuda", torch.bfloat16, default)
    baseline = f"official code in {str(default).removeprefix('torch.')}"
    work, load = partial(_build, stage, version, setting), TERAFLOP.get((stage, version))
    return Case(f"official {version} {stage}, GPU", "ours in bf16", baseline, work, BF16, True, "cuda", load)


def _build(stage: str, version: str, setting: Setting, small: bool) -> Sides:
    size = SMALL if small else setting.size
    return STAGES[stage](version, Setting(size, setting.device, setting.dtype, setting.official))
