"""The training loop that every stage shares: accelerate, averaged weights, stop and resume.

A stage gives a model, an objective (batches and loss) and a StageSpec. A step has `accumulation` × processes
micro-batches; the batch and the noise of each depend on (seed, step, micro-batch) alone. So a resumed run sees the very
batches of an unbroken one, and two processes see those of one process that accumulates twice. With `loader_threads`
coming batches are made while a step computes.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
import torch
from accelerate.utils import set_seed
from torch import nn

from fusionframes_core.checkpoints.state_dict import save_weights

from .averaging import Average
from .checkpoint_writer import CheckpointWriter
from .companions import Companions
from .cpu_gradients import warn_of_wrong_gradients
from .devices import check_same_step, make_accelerator, only_run_in, sum_over_processes
from .durable_files import full_disk_says
from .figures import Means
from .flops import Meter
from .frozen import prepare_frozen
from .objective import Batch, Objective, StageSpec
from .optimizers import clip_gradients, prepare
from .prefetch import Prefetcher
from .reporting import Reporter, save_bad_batch
from .run_checkpoints import Checkpoints, flatten_config
from .run_settings import TrainSettings
from .run_state import RunState
from .sharding import full_tensor, gradient_sync, place_model, reshard
from .staging import DeviceCopies, Staged
from .stop_signals import StopSignals

T = TypeVar("T")
STOPPED = 143  # exit status after SIGTERM, as shells say it


class Trainer:
    """Minimises an objective over the trainable parameters of a model and averages its weights."""

    def __init__(self, settings: TrainSettings, model: nn.Module, objective: Objective, stage: StageSpec) -> None:
        """Raises ValueError for a launcher with its own sharding, for a model of which nothing trains, and for sample
        videos of a stage that has none."""
        if settings.sample_every and stage.sample is None:
            raise ValueError(
                f"sample_every must be 0 for the stage {stage.name!r}, which makes no videos; "
                f"got {settings.sample_every}"
            )
        self.settings, self.objective, self.stage = settings, objective, stage
        self.accelerator = make_accelerator(settings)
        warn_of_wrong_gradients(self.accelerator)
        set_seed(settings.seed, device_specific=True)
        names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        if not names:
            raise ValueError("model must have at least one trainable parameter; every one is frozen")
        frozen = prepare_frozen(model, settings)
        self.meter = Meter(model, settings, self.accelerator.device)
        model = place_model(self.accelerator, model, settings)
        self.model, self.optimizer, self.trainable = prepare(self.accelerator, model, settings)
        self.average = Average(self.trainable, settings.ema_decay)
        self.state = RunState(self.accelerator, self.module, names, self.optimizer, self.average, frozen)
        self.checkpoints = Checkpoints(settings.output, stage.name, flatten_config(stage.architecture))
        on_cpu, background = self.accelerator.device.type == "cpu", settings.background_checkpoints
        self.writer = CheckpointWriter(
            self.accelerator, self.checkpoints, not on_cpu if background is None else background
        )
        self.copies = DeviceCopies(self.accelerator.device)
        threads = settings.loader_threads
        # On a CPU a thread would take from the step.
        self.batches = Prefetcher(self._make_batch, int(not on_cpu) if threads is None else threads)
        self.companions = Companions()
        self.step = 0
        self._recent_loss = 0.0  # mean of the last log_every steps
        self._seconds_waiting = 0.0  # for batches, since the last line of the log
        self._means = Means()  # of the steps since then, over all processes
        self._signals, self._stopping = StopSignals(), False  # of this process; all processes stop together

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
        alone = only_run_in(self.accelerator, self.settings.output)
        with alone, self.companions.watching(self._intact), self._signals.listening():
            self._run()
        self.average.apply()
        return self.module

    def _run(self) -> None:
        self._resume()
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
                used = self._utilisation(reporter)
                with reporter.clock_paused():
                    figures = self._take_figures(validate=due)
                reporter.log(self.step, figures | used)
            if self.stage.sample is not None and settings.sample_every and self.step % settings.sample_every == 0:
                with reporter.clock_paused():
                    reporter.video(self.step, self._evaluate(self.stage.sample))
            if self._stopping or due:
                with reporter.clock_paused():
                    self.save()
                saved = self.step
            if self._stopping:
                reporter.message(f"stopped: step {self.step} is saved, and the same command goes on from there")
                self.writer.finish()
                raise SystemExit(STOPPED)
        if saved != self.step:
            self.save()
        self.writer.finish()

    def _train_step(self) -> float:
        """One step; its loss, over all processes."""
        settings, parts = self.settings, self.settings.accumulation
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * settings.rate(self.step)
        losses, found, batches = [], [], []
        for part in range(parts):
            batch = self._next_batch(part)
            with gradient_sync(self.accelerator, self.model, settings, last=part == parts - 1):
                loss, batch_figures = self.objective.loss(self.meter.watch(self.model), batch)
                self.accelerator.backward(loss / parts)
            losses.append(loss.detach())
            found.append(batch_figures)
            batches.append(batch)
        figures = Means()
        for batch_figures in found:
            figures.add(batch_figures)
        mean = self._reduce(sum(loss.item() / parts for loss in losses), figures, batches)
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
        return self.copies.finish(batch)

    def _make_batch(self, key: tuple[int, int]) -> tuple[int, Staged]:
        """The seed of torch's stream and the batch of (step, part), on its way to the device."""
        step, part = key
        index = part * self.accelerator.num_processes + self.accelerator.process_index
        rng = np.random.default_rng((self.settings.seed, step, index))
        stream = int(rng.integers(2**31))
        return stream, self.copies.start(self.objective.make_batch(rng))

    def _reduce(self, loss: float, figures: Means, batches: list[Batch]) -> float:
        """The mean loss over all processes; `figures` become theirs too. Every process stops when one has to."""
        # Until there is a mean of log_every steps to compare with, no loss is too large.
        wrong = not math.isfinite(loss) or 0 < self.settings.explosion * self._recent_loss < loss
        flags = (wrong, self._signals.requested, self.writer.busy, self.writer.failed)
        numbers = [loss, *map(float, flags), *figures.flatten()]
        summed = sum_over_processes(self.accelerator, torch.tensor(numbers, dtype=torch.float64))
        if summed[1]:
            why = "not finite" if not math.isfinite(summed[0]) else f"over {self.settings.explosion:g} times its mean"
            raise self._failure(f"loss {loss:g} at step {self.step} is {why}", batches if wrong else None)
        self._stopping = bool(summed[2])
        self.writer.advance(bool(summed[3]), bool(summed[4]))
        figures.unflatten(summed[5:].tolist())
        return summed[0].item() / self.accelerator.num_processes

    def _failure(self, what: str, batches: list[Batch] | None) -> FloatingPointError:
        """The error that ends the run, after `batches`, which caused it, were saved; None: another process has them."""
        if batches is None:
            where = "another process saved the batch"
        else:
            path = self.settings.output / f"bad_batch_{self.step:08d}_{self.accelerator.process_index}.safetensors"
            where = save_bad_batch({str(part): batch for part, batch in enumerate(batches)}, path)
        self.writer.finish()  # every process comes here together
        return FloatingPointError(f"{what}; {where}; {self._intact()}")

    def _intact(self) -> str:
        last = self.checkpoints.last()
        return f"the checkpoint of step {int(last.name)} is intact" if last else "no checkpoint yet"

    def _take_figures(self, validate: bool) -> dict[str, float]:
        """Means since the last line of the log, which begin anew; with `validate` also the held-out figures."""
        figures = self._means.means()
        figures["seconds_waiting"] = self._seconds_waiting / self._means.sums["loss"][1]  # for data, a step
        self._recent_loss, self._means, self._seconds_waiting = figures["loss"], Means(), 0.0
        if self.stage.validate is not None and validate:
            figures |= self._evaluate(self.stage.validate)
        return figures

    def _utilisation(self, reporter: Reporter) -> dict[str, float]:
        """TFLOP/s and MFU of the steps since the last line, where the card's peak is known."""
        seconds = reporter.seconds_since_last(self.step)
        with reporter.clock_paused():
            used = self.meter.utilisation
        if self.meter.problem:
            reporter.message(f"the log has no mfu: {self.meter.problem}")
            self.meter.problem = ""
        return {} if used is None else used.figures(seconds)

    def _evaluate(self, measure: Callable[[nn.Module], T]) -> T:
        """`measure(model)` with averaged weights, by all processes; the run's random streams stay as they are."""
        self.module.eval()
        with self.average.applied(), torch.no_grad(), torch.random.fork_rng():
            try:
                return measure(self.module)
            finally:
                reshard(self.module)

    def save(self) -> None:
        """Write a checkpoint, or begin to. Raises DiskFull on every process; the last checkpoint is intact then."""
        scaler = self.accelerator.scaler
        progress = {
            "seed": self.settings.seed,
            "averaged": self.average.count,
            "recent": self._recent_loss,
            "scaler": None if scaler is None else scaler.state_dict(),
            "sums": self._means.sums,
            "frozen": self.state.frozen,
        }
        self.writer.save(self.step, self.state.portions(), copy.deepcopy(progress))

    def _resume(self) -> None:
        path = self.checkpoints.last() if self.settings.resume else None
        check_same_step(self.accelerator, None if path is None else int(path.name), self.settings.output)
        if path is None:
            return
        progress = self.state.load(self.checkpoints, path)
        if self.accelerator.scaler is not None and progress["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(progress["scaler"])
        self.step, self.average.count, self._recent_loss = progress["step"], progress["averaged"], progress["recent"]
        self._means = Means(progress.get("sums"))

    def export(self, name: str, prefix: str = "", metadata: Mapping[str, str] | None = None) -> None:
        """Write the model's weights under `prefix` (less it) to the run's folder, in float32, with the file's metadata.

        Every process has to call it.
        """
        weights = {}
        for key, value in self.module.state_dict().items():
            if key.startswith(prefix):
                whole = full_tensor(value)  # by all processes, for the first
                if self.accelerator.is_main_process:
                    weights[key.removeprefix(prefix)] = whole
        if self.accelerator.is_main_process:
            with full_disk_says(f"no space left for {self.settings.output / name}; the last checkpoint is intact"):
                save_weights(weights, self.settings.output / name, dtype=torch.float32, metadata=metadata)
        self.accelerator.wait_for_everyone()
