"""The engine in one process: what is refused, what stops a run, what it writes."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import training.engine.devices
import training.engine.reporting
import training.engine.run_checkpoints
from tests.helpers.toy_trainer import Toy, settings, toy_spec, toy_trainer
from training.engine.checkpoint_parts import StoredPart, on_cpu
from training.engine.devices import check_same_step
from training.engine.optimizers import clip_gradients, load_optimizer, optimizer_portion
from training.engine.stop_signals import SIGNALS
from training.engine.trainer import Trainer


def checkpoint(folder: Path, step: int, part: str) -> dict[str, torch.Tensor]:
    """Tensors of a checkpoint."""
    return load_file(folder / "checkpoints" / f"{step:08d}" / f"{part}.safetensors")


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Copies of the model's weights."""
    return {name: value.clone() for name, value in trainer.module.state_dict().items()}


def test_resume_is_bit_equal(tmp_path: Path) -> None:
    """Ten steps at once, and four steps then six: the same weights, averaged weights and optimizer states."""
    toy_trainer(settings(tmp_path / "whole")).run()
    toy_trainer(settings(tmp_path / "parts", steps=4)).run()
    toy_trainer(settings(tmp_path / "parts")).run()
    for part in ("model", "average", "optimizer"):
        found, wanted = (
            load_file(tmp_path / name / "checkpoints/00000010" / f"{part}.safetensors") for name in ("parts", "whole")
        )
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_restored_moments_lie_as_their_parameters_do(tmp_path: Path) -> None:
    """Fused kernels on a GPU go through both place by place; a checkpoint has everything in rows."""
    kernel = torch.nn.Parameter(torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last))
    optimizer = torch.optim.AdamW([kernel])
    kernel.grad = torch.randn(4, 3, 3, 3)
    optimizer.step()
    before = {name: value.clone() for name, value in optimizer.state[kernel].items()}
    save_file(on_cpu(optimizer_portion(optimizer, ["kernel"], [kernel], 0, 1), copy=True), tmp_path / "o.safetensors")
    again = torch.optim.AdamW([kernel])
    with StoredPart(tmp_path, "o", 1) as stored:
        load_optimizer(again, ["kernel"], [kernel], stored)
    for name, value in again.state[kernel].items():
        assert torch.equal(value, before[name]), name
        assert value.stride() == before[name].stride(), name


def test_average_follows_its_equation(tmp_path: Path) -> None:
    """avg ← decay · avg + (1 − decay) · w from the first weights on; frozen weights stay."""
    start = Toy(8).state_dict()["frozen.weight"]
    torch.manual_seed(0)
    trainer = toy_trainer(settings(tmp_path, ema_decay=0.5))
    wanted = None
    for _ in range(4):
        trainer._train_step()
        now = trainer.module.first.weight.detach().clone()
        wanted = now if wanted is None else 0.5 * wanted + 0.5 * now
        torch.testing.assert_close(trainer.average.values[0], wanted)
    with trainer.average.applied():
        torch.testing.assert_close(trainer.module.first.weight, wanted)
    assert torch.equal(trainer.module.first.weight, now)
    assert start.shape == trainer.module.frozen.weight.shape


def test_accumulated_parts_are_the_gradient_of_the_whole(tmp_path: Path) -> None:
    """The mean over two parts of four is a step on eight, as far as floats go: the reported norms agree."""
    trainer = toy_trainer(settings(tmp_path / "a", accumulation=2, clip_norm=1e9))
    grads = []
    for part in range(2):
        loss, _ = trainer.objective.loss(trainer.module, trainer._next_batch(part))
        grads.append(torch.autograd.grad(loss, trainer.trainable))
    norm = torch.cat([(a + b).flatten() / 2 for a, b in zip(*grads)]).norm().item()
    trainer._train_step()
    assert trainer._means.means()["grad_norm"] == pytest.approx(norm, rel=1e-5)


def test_clipping_bounds_the_step(tmp_path: Path) -> None:
    trainer = toy_trainer(settings(tmp_path, clip_norm=1e-3))
    trainer._next_batch(0)
    loss, _ = trainer.objective.loss(trainer.model, trainer._next_batch(0))
    trainer.accelerator.backward(loss)
    assert clip_gradients(trainer.accelerator, trainer.trainable, trainer.settings) > 1e-3
    assert torch.cat([p.grad.flatten() for p in trainer.trainable]).norm() <= 1.001e-3


@pytest.mark.parametrize(("what", "message"), [("nan_at", "not finite"), ("factor_at", "over 100 times its mean")])
def test_a_bad_batch_stops_the_run_and_is_kept(tmp_path: Path, what: str, message: str) -> None:
    """The sentence names step, file and checkpoint; the file holds the batch; the weights did not take the step."""
    trainer = toy_trainer(settings(tmp_path), **{what: 6})
    with pytest.raises(
        FloatingPointError, match=f"at step 6 is {message}.*the checkpoint of step 4 is intact"
    ) as caught:
        trainer.run()
    path = tmp_path / "bad_batch_00000006_0.safetensors"
    assert str(path) in str(caught.value)
    batch = load_file(path)["0.x"]
    assert batch.shape == (4, 4)
    assert bool(batch.isnan().any()) == (what == "nan_at")
    with safe_open(str(path), framework="pt") as file:
        assert json.loads(file.metadata()["values"]) == {"0.words": ["one", "two"]}
    assert all(value.isfinite().all() for value in weights(trainer).values())


@pytest.mark.parametrize("at", [0, 5, 6])
def test_a_gradient_that_is_not_finite_takes_no_step(tmp_path: Path, at: int) -> None:
    """The loss may be finite all the same; the checkpoint before it, and the weights, have no NaN."""
    trainer = toy_trainer(settings(tmp_path), gradient_nan_at=at)
    kept = "the checkpoint of step 4 is intact" if at else "no checkpoint yet"
    with pytest.raises(FloatingPointError, match=f"the gradient at step {at} is not finite; .*{kept}"):
        trainer.run()
    assert (tmp_path / f"bad_batch_{at:08d}_0.safetensors").is_file()
    assert all(value.isfinite().all() for value in weights(trainer).values())
    if at:
        stored = load_file(tmp_path / "checkpoints" / "00000004" / "model.safetensors")
        assert all(value.isfinite().all() for value in stored.values())


def test_a_bad_batch_on_a_full_disk_is_still_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(training.engine.reporting, "save_batch", full)
    with pytest.raises(FloatingPointError, match="at step 6 is not finite; there was no space left to save the batch"):
        toy_trainer(settings(tmp_path), nan_at=6).run()


def test_another_architecture_of_the_same_shape_is_refused(tmp_path: Path) -> None:
    """Equal names and shapes do not make equal networks: the configs are kept with the checkpoint."""
    built = {"unet": {"temporal": "blocks", "heads": (2, 4)}, "base": None}
    toy_trainer(settings(tmp_path, steps=4), spec=toy_spec(built=built)).run()
    other = {**built, "unet": {**built["unet"], "temporal": "layers"}}
    with pytest.raises(ValueError, match=r"unet.temporal was 'blocks' and is 'layers' now; name another output"):
        toy_trainer(settings(tmp_path), spec=toy_spec(built=other)).run()
    with pytest.raises(ValueError, match=r"base was None and is 'zero' now"):
        toy_trainer(settings(tmp_path), spec=toy_spec(built={**built, "base": "zero"})).run()
    trainer = toy_trainer(settings(tmp_path), spec=toy_spec(built=built))
    trainer.run()
    assert trainer.step == 10


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_made_ahead_are_the_same(tmp_path: Path, threads: int) -> None:
    """Whoever makes them: losses and weights are bit-equal, with several parts a step and after a resume too."""
    plain = toy_trainer(settings(tmp_path / "0", accumulation=3, loader_threads=0))
    plain.run()
    toy_trainer(settings(tmp_path / "1", accumulation=3, loader_threads=threads, steps=5)).run()
    ahead = toy_trainer(settings(tmp_path / "1", accumulation=3, loader_threads=threads))
    ahead.run()
    found, wanted = weights(ahead), weights(plain)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_an_error_in_a_thread_is_the_runs(tmp_path: Path) -> None:
    trainer = toy_trainer(settings(tmp_path, loader_threads=2))

    def broken(rng: np.random.Generator) -> Any:
        raise ValueError("clips must be whole")

    trainer.objective.make_batch = broken  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="clips must be whole"):
        trainer.run()


def test_samples_of_a_stage_without_videos_are_refused(tmp_path: Path) -> None:
    silent = dataclasses.replace(toy_spec(), sample=None)
    with pytest.raises(ValueError, match="sample_every must be 0 for the stage 'toy', which makes no videos; got 5"):
        toy_trainer(settings(tmp_path, sample_every=5), spec=silent)


def test_what_a_run_writes(tmp_path: Path) -> None:
    """log.jsonl, TensorBoard's events and a sample video every five steps."""
    toy_trainer(settings(tmp_path, trackers=["tensorboard"], sample_every=5)).run()
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == [2, 4, 6, 8, 10]
    assert {"loss", "grad_norm", "largest", "seconds_per_step"} <= entries[0].keys()
    assert list(tmp_path.rglob("events.out.tfevents.*"))
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["00000005.mp4", "00000010.mp4"]


@pytest.mark.parametrize("change", [{"mixed_precision": "bf16"}, {"optimizer": "adamw8bit"}])
def test_other_number_formats_train(tmp_path: Path, change: dict[str, str]) -> None:
    """bf16 and 8-bit Adam lower the loss as far, and resume to the same bits."""
    if change.get("optimizer"):
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    common = {"learning_rate": 0.03, "steps": 60, "log_every": 10, **change}
    toy_trainer(settings(tmp_path / "whole", **common), width=64).run()
    toy_trainer(settings(tmp_path / "parts", **{**common, "steps": 20}), width=64).run()
    trainer = toy_trainer(settings(tmp_path / "parts", **common), width=64)
    trainer.run()
    entries = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert entries[-1]["loss"] < 0.5 * entries[0]["loss"]
    found, wanted = (
        load_file(tmp_path / name / "checkpoints/00000060/model.safetensors") for name in ("parts", "whole")
    )
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_machines_that_see_other_folders_are_refused(tmp_path: Path) -> None:
    """One process found the checkpoint of step 4, another none."""

    class Several:
        num_processes, device = 2, torch.device("cpu")

        def gather(self, mine: torch.Tensor) -> torch.Tensor:
            return torch.cat((mine, torch.tensor([self.other])))

    several: Any = Several()
    several.other = 4
    check_same_step(several, 4, tmp_path)
    several.other = -1
    with pytest.raises(ValueError, match=r"output must be a folder .*; .* to be none and that of step 4"):
        check_same_step(several, 4, tmp_path)


def test_signals_mean_after_a_run_what_they_meant_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After one that ends, one that a signal stops, and one that fails; meanwhile they save and stop."""
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def same() -> bool:
        return all(signal.getsignal(number) == handler for number, handler in before.items())

    toy_trainer(settings(tmp_path / "whole", steps=2)).run()
    assert same()
    stopped = toy_trainer(settings(tmp_path / "stopped"))
    step = stopped._train_step

    def with_signal() -> float:
        assert not same()
        os.kill(os.getpid(), signal.SIGTERM)
        return step()

    monkeypatch.setattr(stopped, "_train_step", with_signal)
    with pytest.raises(SystemExit):
        stopped.run()
    assert stopped.checkpoints.last() == tmp_path / "stopped" / "checkpoints" / "00000001"
    assert same()
    failing = toy_trainer(settings(tmp_path / "failing"))
    monkeypatch.setattr(failing, "_train_step", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failing.run()
    assert same()
