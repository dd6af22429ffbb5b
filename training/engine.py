"""The training loop that every stage shares: accelerate, EMA, atomic checkpoints, stop and resume.

A stage gives a model, a `loss(model, batch)` and a `make_batch(rng)`. Batches depend on seed, step and process alone,
so a resumed run sees the very batches of an unbroken one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

Batch = Mapping[str, Any]
Loss = Callable[[nn.Module, Batch], tuple[Tensor, dict[str, float]]]


@dataclass
class TrainSettings:
    """What every stage's config file says about its run.

    The learning rate warms up, stays constant, and falls linearly to zero over the last `decay_steps`; so a run can be
    ended early by resuming it with fewer `steps`.
    """

    output: Path
    steps: int
    batch_size: int  # per process
    learning_rate: float
    warmup_steps: int = 100
    decay_steps: int = 200
    weight_decay: float = 0.01
    ema_decay: float = 0.998
    clip_norm: float = 1.0
    seed: int = 0
    log_every: int = 50
    checkpoint_every: int = 500
    resume: bool = True

    def __post_init__(self) -> None:
        self.output = Path(self.output)
        for name in ("steps", "batch_size", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")

    def rate(self, step: int) -> float:
        """Factor on the learning rate at `step`."""
        return max(0.0, min(1.0, (step + 1) / self.warmup_steps, (self.steps - step) / max(1, self.decay_steps)))


class Trainer:
    """Runs `loss` over `make_batch`'s batches; `run` returns the EMA weights' module."""

    def __init__(
        self,
        settings: TrainSettings,
        model: nn.Module,
        loss: Loss,
        make_batch: Callable[[np.random.Generator], Batch],
        validate: Callable[[nn.Module], dict[str, float]] | None = None,
    ) -> None:
        self.settings, self.loss, self.make_batch, self.validate = settings, loss, make_batch, validate
        self.accelerator = Accelerator()
        set_seed(settings.seed, device_specific=True)
        trainable = [p for p in model.parameters() if p.requires_grad]
        if not trainable:
            raise ValueError("model must have at least one trainable parameter; every one is frozen")
        self.trainable = trainable
        optimizer = torch.optim.AdamW(
            trainable, lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.99)
        )
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, settings.rate)
        self.ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema_decay))
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.accelerator.register_for_checkpointing(self.ema, self.scheduler)
        self.step, self._stopping = 0, False

    def run(self) -> nn.Module:
        """Train to `settings.steps`, or until SIGTERM or SIGINT, which saves a checkpoint and exits with 143."""
        self._resume()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask_to_stop)
        main = self.accelerator.is_main_process
        bar = tqdm(total=self.settings.steps, initial=self.step, disable=not main, mininterval=10)
        logs: list[dict[str, float]] = []
        started, first = time.perf_counter(), self.step
        while self.step < self.settings.steps:
            logs.append(self._train_step())
            bar.update()
            if self.step % self.settings.log_every == 0:
                self._report(logs, (time.perf_counter() - started) / (self.step - first))
                logs = []
            if self._should_stop():
                self.save()
                raise SystemExit(143)
            if self.step % self.settings.checkpoint_every == 0:
                self.save()
        bar.close()
        self.save()
        return self.ema.module

    def _train_step(self) -> dict[str, float]:
        rng = np.random.default_rng((self.settings.seed, self.step, self.accelerator.process_index))
        torch.manual_seed(int(rng.integers(2**31)))
        self.model.train()
        loss, logs = self.loss(self.model, self.make_batch(rng))
        if not torch.isfinite(loss):
            raise FloatingPointError(f"loss is {loss.item()} at step {self.step}; the last checkpoint is intact")
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.trainable, self.settings.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.scheduler.step()
        self.ema.update_parameters(self.accelerator.unwrap_model(self.model))
        self.step += 1
        return {"loss": loss.item(), "grad_norm": float(norm), **logs}

    def _report(self, logs: list[dict[str, float]], seconds: float) -> None:
        keys = {key for entry in logs for key in entry}
        line = {key: float(np.mean([entry[key] for entry in logs if key in entry])) for key in sorted(keys)}
        if self.validate is not None and self.step % self.settings.checkpoint_every == 0:
            self.ema.module.eval()
            with torch.inference_mode():
                line |= self.validate(self.ema.module)
        if self.accelerator.is_main_process:
            entry = {"step": self.step, "seconds_per_step": seconds, **line}
            tqdm.write("  ".join(f"{k}={v:.5g}" for k, v in entry.items()))
            self.settings.output.mkdir(parents=True, exist_ok=True)
            with open(self.settings.output / "log.jsonl", "a") as file:
                file.write(json.dumps(entry) + "\n")

    def _ask_to_stop(self, *_: object) -> None:
        self._stopping = True

    def _should_stop(self) -> bool:
        """True on every process as soon as one was asked to stop."""
        if self.accelerator.num_processes == 1:
            return self._stopping
        flag = torch.tensor([int(self._stopping)], device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum").item())

    @property
    def _checkpoint(self) -> Path:
        return self.settings.output / "checkpoint"

    def save(self) -> None:
        """Write a complete checkpoint beside the old one, then put it in its place."""
        partial = self._checkpoint.with_name("checkpoint.partial")
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(partial))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            (partial / "progress.json").write_text(json.dumps({"step": self.step}))
            old = self._checkpoint.with_name("checkpoint.old")
            shutil.rmtree(old, ignore_errors=True)
            if self._checkpoint.exists():
                os.replace(self._checkpoint, old)
            os.replace(partial, self._checkpoint)
            shutil.rmtree(old, ignore_errors=True)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        folder = self._checkpoint
        if not folder.exists():
            folder = self._checkpoint.with_name("checkpoint.old")  # a kill between the two renames of `save`
        if not self.settings.resume or not folder.exists():
            return
        self.accelerator.load_state(str(folder))
        self.step = json.loads((folder / "progress.json").read_text())["step"]
        # The schedule of this run counts, not the saved one's: `steps` may have changed.
        self.scheduler.last_epoch = self.step - 1
        self.scheduler.step()
