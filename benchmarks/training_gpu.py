"""`python -m benchmarks.training_gpu`: training steps of the paper's stages on a card, in at most eight minutes.

Seconds a step, peak memory and model FLOP utilisation of every stage with each choice of `train:`, beside the same step
written plainly with the official network (KANDINSKY_VIDEO_PATH). Models have random weights, made on the card. Every
result is written down as it is found, and the same command goes on where a run was cut off. `--small` runs everything
in small, on a CPU too.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.gpu_bench import Bench, Measurement
from benchmarks.gpu_results import add_options, opened, run, setting_of, unfused
from benchmarks.gpu_tables import markdown
from benchmarks.harness import ROOT
from benchmarks.official_stages import VARIABLE, work_trees
from benchmarks.our_stages import FULL, SMALL, Place
from benchmarks.training_stages import OFFICIAL_STEPS, TRAINED, Choice, if_it_fits, our_step, plain_step

RESULTS = ROOT / "runs" / "training_gpu.jsonl"
CHECKPOINTING: dict[str, Any] = {"activation_checkpointing": True}
EIGHT_BITS: dict[str, Any] = {"optimizer": "adamw8bit"}
COMPILED: dict[str, Any] = {"channels_last": True, "compile": True}
SHIPPED = Choice("as shipped", {**CHECKPOINTING, "frozen": "bf16"})
# What is tried of each stage, best guesses first; a row's seconds are a guess too, for the time budget.
CHOICES: dict[str, tuple[Choice, ...]] = {
    "keyframes": (
        SHIPPED,
        Choice("channels-last", {**SHIPPED.changes, "channels_last": True}),
        Choice("frozen in float32", {"activation_checkpointing": True}),
        Choice("channels-last, no checkpointing", {"frozen": "bf16", "channels_last": True}),
        Choice("channels-last, compiled", {**SHIPPED.changes, **COMPILED}, 400, doubtful=True),
    ),
    "interpolation": (
        Choice("8-bit Adam, channels-last", {**CHECKPOINTING, **EIGHT_BITS, "channels_last": True}),
        Choice("8-bit Adam, no checkpointing", {**EIGHT_BITS, "channels_last": True}),
        Choice("as shipped, on one card", CHECKPOINTING, doubtful=True),
        Choice("8-bit Adam, channels-last, compiled", {**CHECKPOINTING, **EIGHT_BITS, **COMPILED}, 400, doubtful=True),
    ),
    "decoder": (
        SHIPPED,
        Choice("channels-last", {**SHIPPED.changes, "channels_last": True}),
        Choice("channels-last, no checkpointing", {"frozen": "bf16", "channels_last": True}),
    ),
}


def measurements(compiled: bool) -> list[Measurement]:
    """Every row: each stage's best guess and the official network first, then the other choices, doubtful ones last."""
    has_8bit = importlib.util.find_spec("bitsandbytes") is not None
    first: list[Measurement] = []
    later: list[Measurement] = []
    last: list[Measurement] = []
    for stage in TRAINED:
        wanted = [
            choice
            for choice in CHOICES[stage]
            if (compiled or not choice.changes.get("compile")) and (has_8bit or "optimizer" not in choice.changes)
        ]
        certain = [_row(stage, choice) for choice in wanted if not choice.doubtful]
        first += certain[:1]
        later += certain[1:]
        last += [_row(stage, choice) for choice in wanted if choice.doubtful]
        if OFFICIAL_STEPS[stage].version in work_trees():
            name = f"{stage}, official network, plainly"
            first.append(Measurement("training", name, partial(if_it_fits, partial(plain_step, stage)), seconds=40))
    return first + later + last


def _row(stage: str, choice: Choice) -> Measurement:
    work = partial(if_it_fits, partial(our_step, stage, choice))
    return Measurement("training", f"{stage}, {choice.name}", work, choice.seconds)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.training_gpu", description=__doc__.splitlines()[0])
    made.add_argument("--no-compile", action="store_true", help="without torch.compile, which takes minutes")
    add_options(made, "STAGE", "only one stage: " + ", ".join(TRAINED))
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0; 1 when something failed or no time was left; 2 for a bad argument."""
    options = parser().parse_args(arguments)
    gpu = torch.cuda.is_available()
    todo = [one for one in measurements(not options.no_compile) if options.only in one.row.partition(",")[0]]
    problem = ""
    if not gpu and not options.small:
        problem = "no GPU: --small runs everything in small on the CPU"
    elif options.repeats < 1 or not todo:
        problem = "--repeats must be at least 1" if todo else f"--only {options.only!r} names no stage"
    bench = Bench(SMALL if options.small else FULL, Place("cuda" if gpu else "cpu", torch.bfloat16), options.repeats)
    try:
        results = None if problem else opened(options, RESULTS, setting_of(bench))
    except ValueError as error:
        problem = str(error)
    if results is None or problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    problems = run(bench, todo, results, options.minutes)
    print(markdown(results.rows))
    print("\n" + ", ".join(f"{name} {value}" for name, value in setting_of(bench).items()))
    missing = [] if work_trees() else [f"{VARIABLE} names the official work trees, whose networks are trained beside"]
    if importlib.util.find_spec("bitsandbytes") is None:
        missing.append("interpolation needs bitsandbytes (8-bit Adam) to fit one card; it is not installed")
    print("\n".join([*missing, *unfused(results), *problems]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
