"""`python -m benchmarks.training_step`: one training step of ours against the same step in plain PyTorch, float32.

The tiny keyframe U-Net with every parameter trained: noise, forward, mean squared error, backward, clipping, AdamW,
moving average. Time by alternating runs, memory in a fresh process each; ours with activation checkpointing as well.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.harness import CLEAR_REFS, ROOT, STATUS, status_mb
from fusionframes_core.models.unet.unet import KeyframeCondition, UNet
from fusionframes_core.presets import TINY
from fusionframes_core.sampling.schedule import NoiseSchedule
from training.engine.figures import Figures
from training.engine.objective import Batch, StageSpec
from training.engine.run_settings import TrainSettings
from training.engine.trainer import Trainer
from training.objectives.denoising import denoising_loss

Step = Callable[[], float]
SIDES = ("plain", "ours", "ours, checkpointing")


def make_batch(clips: int, frames: int, rng: np.random.Generator) -> Batch:
    """Random latents and text."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    return {
        "latents": torch.randn(clips, 4, frames, 8, 8, generator=generator),
        "t": torch.randint(0, 1000, (clips,), generator=generator),
        "context": torch.randn(clips, TINY.text.max_tokens, TINY.text.context_dim, generator=generator),
    }


def condition(batch: Batch) -> KeyframeCondition:
    """Frames by index, every token attended."""
    mask = torch.ones(batch["context"].shape[:2], dtype=torch.bool)
    positions = torch.arange(batch["latents"].shape[2]).float().expand(len(mask), -1)
    return KeyframeCondition(batch["context"], mask, positions)


def plain(clips: int, frames: int) -> Step:
    """As one writes it without an engine."""
    torch.manual_seed(0)
    model = UNet(TINY.keyframe)
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    alphas = NoiseSchedule.from_config(TINY.keyframe_schedule).alphas_cumprod.float()
    rng = np.random.default_rng(0)

    def step() -> float:
        batch = make_batch(clips, frames, rng)
        x0, noise = batch["latents"], torch.randn_like(batch["latents"])
        alpha = alphas[batch["t"]].sqrt().reshape(-1, 1, 1, 1, 1)
        sigma = (1 - alphas[batch["t"]]).sqrt().reshape(-1, 1, 1, 1, 1)
        output = model(alpha * x0 + sigma * noise, batch["t"], condition(batch))
        loss = torch.nn.functional.mse_loss(output, alpha * noise - sigma * x0)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for mean, value in zip(average.parameters(), model.parameters(), strict=True):
                mean.mul_(0.999).add_(value, alpha=0.001)
        return loss.item()

    return step


class RandomLatents:
    """The objective of the step: v-prediction on random latents."""

    def __init__(self, clips: int, frames: int) -> None:
        self.clips, self.frames = clips, frames
        self.schedule = NoiseSchedule.from_config(TINY.keyframe_schedule)

    def make_batch(self, rng: np.random.Generator) -> Batch:
        """Random latents and text."""
        return make_batch(self.clips, self.frames, rng)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Figures]:
        """The stages' denoising loss."""
        seen = condition(batch)
        return denoising_loss(lambda x, t: model(x, t, seen), batch["latents"], batch["t"], self.schedule, "v")


def ours(clips: int, frames: int, checkpointing: bool) -> Step:
    """A step of `training.engine`."""
    torch.manual_seed(0)
    folder = Path(tempfile.gettempdir()) / "training_step"
    settings = TrainSettings(folder, 10**6, clips, 1e-4, activation_checkpointing=checkpointing, trackers=[])
    trainer = Trainer(settings, UNet(TINY.keyframe), RandomLatents(clips, frames), StageSpec("benchmark"))
    return trainer._train_step


def build(side: str, clips: int, frames: int) -> Step:
    """The step of one of SIDES."""
    return plain(clips, frames) if side == "plain" else ours(clips, frames, side.endswith("checkpointing"))


def memory_mb(side: str, clips: int, frames: int) -> float | None:
    """MB by which the second step raises a fresh process's peak (the first one makes the optimizer's states)."""
    command = [sys.executable, "-m", "benchmarks.training_step", "--memory-of", side]
    command += ["--clips", str(clips), "--frames", str(frames)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(answer.stdout.splitlines()[-1])


def peak(step: Step) -> float | None:
    """MB by which a step raises this process's peak; None without Linux's /proc."""
    if not STATUS.is_file():
        return None
    step()
    CLEAR_REFS.write_text("5")
    before = status_mb("VmRSS")
    step()
    return max(status_mb("VmHWM") - before, 0.0)


def seconds(clips: int, frames: int, repeats: int) -> list[float]:
    """Median processor time of a step for each of SIDES, by alternating runs: other work on the machine counts less."""
    steps = [build(side, clips, frames) for side in SIDES]
    taken: list[list[float]] = [[] for _ in steps]
    for repeat in range(repeats + 1):
        for step, times in zip(steps, taken, strict=True):
            start = time.process_time()
            step()
            if repeat:
                times.append(time.process_time() - start)
    return [statistics.median(times) for times in taken]


def main(arguments: list[str] | None = None) -> None:
    """Print a table of time and memory, ratios to the plain step."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_step", description=__doc__)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory-of", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.memory_of:
        print(json.dumps(peak(build(options.memory_of, options.clips, options.frames))))
        return
    times = seconds(options.clips, options.frames, options.repeats)
    memory = [memory_mb(side, options.clips, options.frames) for side in SIDES]
    print("| time / plain | memory / plain | step | processor time | memory |\n| --- | --- | --- | --- | --- |")
    for side, taken, used in zip(SIDES, times, memory, strict=True):
        plain_memory = memory[0]
        share, size = ("", "")
        if used is not None and plain_memory is not None:
            share, size = f"{used / plain_memory:.2f}", f"{used:.0f} MB"
        print(f"| {taken / times[0]:.2f} | {share} | {side} | {taken:.2f} s | {size} |")


if __name__ == "__main__":
    main()
