"""The training loop that every stage shares: accelerate, averaged weights, stop and resume.

A stage gives a model, an objective (batches and loss) and a StageSpec. A step has `accumulation` × processes
micro-batches; the batch and the noise of each depend on (seed, step, micro-batch) alone. So a resumed run sees the very
batches of an unbroken one, and two processes see those of one process that accumulates twice. With `loader_threads`
coming batches are made while a step computes.
"""

from __future__ import annotations

import copy
import math
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
import torch
from accelerate.utils import DistributedType, set_seed
from torch import nn

from fusionframes_core.checkpoints.state_dict import save_weights

from .devices import any_process, check_same_step, make_accelerator, on_device, only_run_in, sum_over_processes
from .durable_files import DiskFull, full_disk_says
from .figures import Means
from .objective import Batch, Objective, StageSpec
from .prefetch import Prefetcher
from .reporting import Reporter, save_bad_batch
from .run_checkpoints import Checkpoints, flatten_config
from .run_settings import TrainSettings
from .sharding import (
    Average,
    checkpoint_activations,
    clip_gradients,
    copy_into,
    full_tensor,
    gradient_sync,
    load_optimizer_state,
    optimizer_state,
    place_model,
)

T = TypeVar("T")
STOPPED = 143  # exit status after SIGTERM, as shells say it


class Trainer:
    """Minimises an objective over the trainable parameters of a model and averages its weights."""

    def __init__(self, settings: TrainSettings, model: nn.Module, objective: Objective, stage: StageSpec) -> None:
        """Raises ValueError for a launcher with its own sharding, or a model of which nothing trains."""
        self.settings, self.objective, self.stage = settings, objective, stage
        self.accelerator = make_accelerator(settings)
        if self.accelerator.distributed_type in (DistributedType.DEEPSPEED, DistributedType.FSDP):
            raise ValueError(
                "launch without DeepSpeed or FSDP: `shard: optimizer` is ZeRO stage 1, `shard: full` is FSDP"
            )
        set_seed(settings.seed, device_specific=True)
        self.names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        if not self.names:
            raise ValueError("model must have at least one trainable parameter; every one is frozen")
        if settings.activation_checkpointing:
            checkpoint_activations(model)
        self.model, self.optimizer, self.trainable = place_model(self.accelerator, model, settings)
        self.average = Average(self.trainable, settings.ema_decay)
        self.checkpoints = Checkpoints(settings.output, stage.name, flatten_config(stage.architecture))
        threads = settings.loader_threads
        if threads is None:  # on a CPU a thread would take from the step
            threads = int(self.accelerator.device.type != "cpu")
        self.batches = Prefetcher(self._make_batch, threads)
        self.step = 0
        self._recent_loss = 0.0  # mean of the last log_every steps
        self._seconds_waiting = 0.0  # for batches, since the last line of the log
        self._means = Means()  # of the steps since then, over all processes
        self._stop_requested, self._stopping = False, False  # by a signal; by all processes together

    @property
    def module(self) -> nn.Module:
        """The model without what accelerate put around it."""
        return self.accelerator.unwrap_model(self.model)

    def run(self) -> nn.Module:
        """Train to `settings.steps`; the model, with its averaged weights.

        SIGTERM or SIGINT saves a checkpoint and exits with 143. Raises ValueError for a checkpoint that does not fit or
        a folder where another run is at work, FloatingPointError when the loss is not finite or explodes, DiskFull; the
        last checkpoint is intact then.
        """
        with full_disk_says(f"no space left in {self.settings.output}"):
            self.settings.output.mkdir(parents=True, exist_ok=True)
        with only_run_in(self.accelerator, self.settings.output):
            self._run()
        self.average.apply()
        return self.module

    def _run(self) -> None:
        self._resume()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._request_stop)
        clips = self.settings.batch_size * self.settings.accumulation * self.accelerator.num_processes
        reporter = Reporter(self.settings, self.accelerator, self.stage.name, self.step, clips * self.stage.frames)
        try:
            self._loop(reporter)
        finally:
            reporter.close()
            self.batches.close()

    def _loop(self, reporter: Reporter) -> None:
        settings, saved = self.settings, self.step
        while self.step < settings.steps:
            loss = self._train_step()
            reporter.step(self.step, loss)
            due = self.step % settings.checkpoint_every == 0
            if due or self.step % settings.log_every == 0:
                with reporter.clock_paused():
                    figures = self._take_figures(validate=due)
                reporter.log(self.step, figures)
            if self.stage.sample is not None and settings.sample_every and self.step % settings.sample_every == 0:
                with reporter.clock_paused():
                    reporter.video(self.step, self._evaluate(self.stage.sample))
            if self._stopping or due:
                with reporter.clock_paused():
                    self.save()
                saved = self.step
            if self._stopping:
                reporter.message(f"stopped: step {self.step} is saved, and the same command goes on from there")
                raise SystemExit(STOPPED)
        if saved != self.step:
            self.save()

    def _train_step(self) -> float:
        """One step; its loss, over all processes."""
        settings, parts = self.settings, self.settings.accumulation
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * settings.rate(self.step)
        total, figures, batches = 0.0, Means(), []
        for part in range(parts):
            batch = self._next_batch(part)
            with gradient_sync(self.accelerator, self.model, settings, last=part == parts - 1):
                loss, batch_figures = self.objective.loss(self.model, batch)
                self.accelerator.backward(loss / parts)
            total += loss.item() / parts
            figures.add(batch_figures)
            batches.append(batch)
        mean = self._reduce(total, figures, batches)
        norm = clip_gradients(self.accelerator, self.trainable, settings)
        # With a scaler (fp16) such gradients are a matter of course: it leaves the step out.
        if not math.isfinite(norm) and self.accelerator.scaler is None:
            raise self._failure(f"the gradient at step {self.step} is not finite", batches)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update()
        self.step += 1
        figures.add({"loss": mean, "grad_norm": norm})
        self._means.merge(figures)
        return mean

    def _next_batch(self, part: int) -> Batch:
        """This process's micro-batch of the step, on its device; torch's stream then gives the noise for it."""
        parts = self.settings.accumulation
        here = self.step * parts + part
        last = min(here + 1 + self.batches.threads, self.settings.steps * parts)
        start = time.perf_counter()
        stream, batch = self.batches.take(divmod(here, parts), [divmod(i, parts) for i in range(here + 1, last)])
        self._seconds_waiting += time.perf_counter() - start
        torch.manual_seed(stream)
        return on_device(batch, self.accelerator.device)

    def _make_batch(self, key: tuple[int, int]) -> tuple[int, Batch]:
        """The seed of torch's stream and the batch of (step, part)."""
        step, part = key
        index = part * self.accelerator.num_processes + self.accelerator.process_index
        rng = np.random.default_rng((self.settings.seed, step, index))
        stream = int(rng.integers(2**31))
        return stream, self.objective.make_batch(rng)

    def _reduce(self, loss: float, figures: Means, batches: list[Batch]) -> float:
        """The mean loss over all processes; `figures` become theirs too. Every process stops when one has to."""
        # Until there is a mean of log_every steps to compare with, no loss is too large.
        wrong = not math.isfinite(loss) or 0 < self.settings.explosion * self._recent_loss < loss
        numbers = [loss, float(wrong), float(self._stop_requested), *figures.flatten()]
        summed = sum_over_processes(self.accelerator, torch.tensor(numbers, dtype=torch.float64))
        if summed[1]:
            why = "not finite" if not math.isfinite(summed[0]) else f"over {self.settings.explosion:g} times its mean"
            raise self._failure(f"loss {loss:g} at step {self.step} is {why}", batches if wrong else None)
        self._stopping = bool(summed[2])
        figures.unflatten(summed[3:].tolist())
        return summed[0].item() / self.accelerator.num_processes

    def _failure(self, what: str, batches: list[Batch] | None) -> FloatingPointError:
        """The error that ends the run, after `batches`, which caused it, were saved; None: another process has them."""
        if batches is None:
            where = "another process saved the batch"
        else:
            path = self.settings.output / f"bad_batch_{self.step:08d}_{self.accelerator.process_index}.safetensors"
            where = save_bad_batch({str(part): batch for part, batch in enumerate(batches)}, path)
        last = self.checkpoints.last()
        kept = f"the checkpoint of step {int(last.name)} is intact" if last else "no checkpoint yet"
        return FloatingPointError(f"{what}; {where}; {kept}")

    def _take_figures(self, validate: bool) -> dict[str, float]:
        """Means since the last line of the log, which begin anew; with `validate` also the held-out figures."""
        figures = self._means.means()
        figures["seconds_waiting"] = self._seconds_waiting / self._means.sums["loss"][1]  # for data, a step
        self._recent_loss, self._means, self._seconds_waiting = figures["loss"], Means(), 0.0
        if self.stage.validate is not None and validate:
            figures |= self._evaluate(self._on_cpu(self.stage.validate))
        return figures

    def _on_cpu(self, measure: Callable[[nn.Module], T]) -> Callable[[nn.Module], T]:
        """`measure` of a copy on the CPU: what stages validate with (text encoders, clips) lies there."""
        if self.accelerator.device.type == "cpu":
            return measure
        return lambda model: measure(copy.deepcopy(model).cpu())

    def _evaluate(self, measure: Callable[[nn.Module], T]) -> T:
        """`measure(model)` with averaged weights; the run's random streams stay as they are."""
        self.module.eval()
        with self.average.applied(), torch.no_grad(), torch.random.fork_rng():
            return measure(self.module)

    def _request_stop(self, *_: object) -> None:
        self._stop_requested = True

    def save(self) -> None:
        """Write a checkpoint. Raises DiskFull on every process; the last checkpoint is intact then."""
        states = {
            "model": {name: full_tensor(value) for name, value in self.module.state_dict().items()},
            "optimizer": optimizer_state(self._raw_optimizer, self.names, self.trainable),
            "average": {n: full_tensor(v) for n, v in zip(self.names, self.average.values, strict=True)},
        }
        scaler = None if self.accelerator.scaler is None else self.accelerator.scaler.state_dict()
        more = {
            "seed": self.settings.seed,
            "averaged": self.average.count,
            "recent": self._recent_loss,
            "scaler": scaler,
        }
        more["sums"] = self._means.sums
        problem: Exception | None = None
        if self.accelerator.is_main_process:
            try:
                self.checkpoints.save(self.step, states, more)
            except Exception as error:
                problem = error
        if any_process(self.accelerator, problem is not None):
            elsewhere = f"the checkpoint of step {self.step} could not be written: see the first process"
            raise problem or DiskFull(elsewhere)

    @property
    def _raw_optimizer(self) -> torch.optim.Optimizer:
        return getattr(self.optimizer, "optimizer", self.optimizer)

    def _resume(self) -> None:
        path = self.checkpoints.last() if self.settings.resume else None
        check_same_step(self.accelerator, None if path is None else int(path.name), self.settings.output)
        if path is None:
            return
        state = self.module.state_dict()
        shapes = {name: tuple(value.shape) for name, value in state.items()}
        trained = {n: tuple(p.shape) for n, p in zip(self.names, self.trainable, strict=True)}
        progress = self.checkpoints.check(path, {"model": shapes, "average": trained})
        for name, value in self.checkpoints.load(path, "model").items():
            copy_into(state[name], value)
        averages = self.checkpoints.load(path, "average")
        for name, target in zip(self.names, self.average.values, strict=True):
            copy_into(target, averages[name])
        load_optimizer_state(self._raw_optimizer, self.names, self.trainable, self.checkpoints.load(path, "optimizer"))
        if self.accelerator.scaler is not None and progress["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(progress["scaler"])
        self.step, self.average.count, self._recent_loss = progress["step"], progress["averaged"], progress["recent"]
        self._means = Means(progress.get("sums"))

    def export(self, name: str, prefix: str = "", metadata: Mapping[str, str] | None = None) -> None:
        """Write the model's weights under `prefix` (less it) to the run's folder, in float32, with the file's metadata.

        Every process has to call it.
        """
        weights = {
            key.removeprefix(prefix): full_tensor(value)
            for key, value in self.module.state_dict().items()
            if key.startswith(prefix)
        }
        if self.accelerator.is_main_process:
            with full_disk_says(f"no space left for {self.settings.output / name}; the last checkpoint is intact"):
                save_weights(weights, self.settings.output / name, dtype=torch.float32, metadata=metadata)
        self.accelerator.wait_for_everyone()
