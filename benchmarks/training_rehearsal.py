"""The paper's training without its weights: `python -m benchmarks.training_rehearsal FOLDER [--scale S] [--steps N]`.

Random weights of the paper's architecture and Moving Shapes prepared with them are written to FOLDER; then each of
`training/configs/paper_*.yaml` runs as it is shipped: half of the steps, and resumed to all of them. A line for each
says what a step took and how the loss went. At scale 1 everything is as large as the paper's, but for the text encoder,
of which one layer is enough for a text as wide; a smaller scale divides the widths.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import ROOT
from benchmarks.rehearsal_files import RandomParts, scaled
from fusionframes_core.checkpoints.model_folder import save_model_folder
from fusionframes_core.config import ModelConfig
from fusionframes_core.presets import PAPER
from training.data.preparing import prepare
from training.data.recipe import Recipe
from training.data.streams import MovingShapes

CLIPS = 4
KEYFRAME_FRAMES = 181  # that 16 keyframes span, 12 apart
CONFIGS = ROOT / "training" / "configs"


@dataclass(frozen=True)
class PaperStage:
    """One of the paper's stages: its module, its config, and which option names the weights that it begins with."""

    module: str
    config: str
    weights: str
    file: str  # of the model folder

    def arguments(self, folder: Path, run: str, steps: int, *more: str) -> list[str]:
        """The command line: the shipped config, with the rehearsal's files in the place of the paper's."""
        made = {
            "train.output": folder / run,
            "train.steps": steps,
            "train.log_every": 1,
            "preset": folder / "model",
            self.weights: folder / "model" / self.file,
            "data": folder / "data",
        }
        options = [word for name, value in made.items() for word in (f"--{name}", str(value))]
        return ["--config", str(CONFIGS / f"{self.config}.yaml"), *options, "--train.trackers", "[]", *more]


STAGES = {
    "keyframes": PaperStage("train_keyframes", "paper_keyframes", "image", "keyframe.safetensors"),
    "interpolation": PaperStage("train_interp", "paper_interp", "image", "keyframe.safetensors"),
    "decoder": PaperStage("train_decoder", "paper_decoder", "movq", "movq.safetensors"),
}


def write_start(config: ModelConfig, folder: Path, clips: int = CLIPS) -> None:
    """Random weights of `config` as the model folder `model`, and Moving Shapes prepared with it as `data`."""
    config = replace(config, text=replace(config.text, num_layers=1))
    parts: Any = RandomParts(config)
    (folder / "model").mkdir(parents=True, exist_ok=True)
    save_model_folder(parts, folder / "model", torch.bfloat16)
    recipe = Recipe(config.size, ("latents", "pixels"), min_frames=KEYFRAME_FRAMES, model=str(folder / "model"))
    prepare(MovingShapes(clips), folder / "data", recipe)


def rehearse(folder: Path, name: str, steps: int, more: Sequence[str]) -> str:
    """Train a stage in a process of its own, stopped half-way and gone on with; the table's line."""
    stage = STAGES[name]
    command = [sys.executable, "-m", f"training.{stage.module}"]
    for last in (max(steps // 2, 1), steps):
        arguments = stage.arguments(folder, f"runs/{name}", last, "--train.checkpoint_every", str(last), *more)
        with subprocess.Popen(
            [*command, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as child:
            assert child.stdout is not None
            said = child.stdout.read()
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            return f"| {name} | | | | | failed: {' '.join(said.split())[-300:]} |"
    log = (folder / "runs" / name / "log.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in log]
    wrong = "" if all(math.isfinite(entry["loss"]) for entry in entries) and len(entries) == steps else " (broken)"
    memory = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    first, final = entries[0], entries[-1]
    losses = f"{first['loss']:.4f} | {final['loss']:.4f}{wrong}"
    times = f"{final['seconds_per_step']:.2f} s | {final['seconds_waiting']:.3f} s"
    return f"| {name} | {times} | {memory:.1f} GB | {losses} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write, run, print; 1 when a stage failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training_rehearsal", description=__doc__.splitlines()[0]
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="of every width, above 0 and at most 1 (default: 1)")
    parser.add_argument("--steps", type=int, default=20, help="of each stage (default: 20)")
    parser.add_argument("--only", choices=STAGES, help="one stage only")
    parser.add_argument("more", nargs="*", help="after --, options for every stage, as --train.compile true")
    options = parser.parse_args(arguments)
    if not 0 < options.scale <= 1:
        parser.error(f"scale must be above 0 and at most 1; got {options.scale}")
    if options.steps < 1:
        parser.error(f"steps must be at least 1; got {options.steps}")
    if not (options.folder / "data" / "report.json").exists():
        write_start(scaled(PAPER, options.scale), options.folder)
    print("| stage | a step | waiting for data | memory of the process | first loss | last loss |")
    print("|---|---|---|---|---|---|", flush=True)
    failures = 0
    for name in [options.only] if options.only else list(STAGES):
        line = rehearse(options.folder, name, options.steps, options.more)
        failures += "failed" in line or "(broken)" in line
        print(line, flush=True)
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
