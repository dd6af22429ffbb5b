"""Where a run computes."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from filelock import FileLock, Timeout
from torch import Tensor

from .run_settings import TrainSettings

# Launchers' ways to share the work, by the variable that switches each on, and which setting does the same.
OTHER_LAUNCHERS = {
    "ACCELERATE_USE_DEEPSPEED": (
        "DeepSpeed",
        "`shard: optimizer` is its ZeRO stage 1 and `shard: full` its stages 2 and 3; instead of moving states to the "
        "CPU, `optimizer: adamw8bit` holds them in a quarter of the memory",
    ),
    "ACCELERATE_USE_FSDP": ("accelerate's FSDP", "`shard: full` is FSDP"),
    "ACCELERATE_USE_MEGATRON_LM": ("Megatron-LM", "`shard: full` spreads the weights"),
}


def check_launcher(environment: Mapping[str, str]) -> None:
    """Raise ValueError for a launcher that would share the work by itself; it names the setting that does the same."""
    for variable, (name, instead) in OTHER_LAUNCHERS.items():
        if environment.get(variable, "").lower() in ("true", "1"):
            raise ValueError(f"launch without {name}: {instead}")


def join_restarted(environment: Mapping[str, str]) -> None:
    """After a restart by torchrun, join the others under a name that no earlier attempt has used.

    Since 2.13 torch itself keeps no attempts apart (`_create_c10d_store` in its rendezvous.py), though torchrun's
    store outlives them: the new processes would find the addresses of those that have ended.
    """
    attempt = environment.get("TORCHELASTIC_RESTART_COUNT", "0")
    if attempt == "0" or dist.is_initialized():
        return
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    store, rank, count = next(dist.rendezvous("env://"))
    store = dist.PrefixStore(f"attempt_{attempt}", store)
    dist.init_process_group(dist.get_default_backend_for_device(device), store=store, rank=rank, world_size=count)


def make_accelerator(settings: TrainSettings) -> Accelerator:
    """Several processes on a machine without a GPU talk by gloo, however they were launched.

    Raises ValueError for a launcher with its own sharding, and for a tracker that is not installed.
    """
    check_launcher(os.environ)
    unknown = [name for name in settings.trackers if importlib.util.find_spec(name) is None]
    if unknown:
        raise ValueError(f"trackers names {unknown[0]}, which is not installed; `trackers: []` needs none")
    join_restarted(os.environ)
    return Accelerator(
        mixed_precision=settings.mixed_precision if settings.mixed_precision != "no" else None,
        cpu=not torch.accelerator.is_available(),
        log_with=list(settings.trackers) or None,
        project_dir=str(settings.output),
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],  # no second copy of them
    )


def any_process(accelerator: Accelerator, flag: bool) -> bool:
    """Whether `flag` holds in some process. Every one of them has to call it."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor([float(flag)], device=accelerator.device), "sum").item())


NO_FLOAT64 = ("mps",)  # kinds of device


def sum_over_processes(accelerator: Accelerator, values: Tensor) -> Tensor:
    """The sum of `values`, float64 on the CPU, over all processes, likewise. Every one of them has to call it.

    From devices without float64 every process's values come as pairs of float32, which hold 48 of their 53 bits, and
    are added up here.
    """
    if accelerator.num_processes == 1:
        return values
    device = accelerator.device
    if device.type not in NO_FLOAT64:
        return accelerator.reduce(values.to(device), "sum").cpu()
    rounded = values.float()
    pairs = torch.stack((rounded, (values - rounded.double()).float()))
    return accelerator.gather(pairs[None].to(device)).cpu().double().sum(dim=(0, 1))


@contextlib.contextmanager
def only_run_in(accelerator: Accelerator, output: Path) -> Iterator[None]:
    """Hold `output` while this run trains; the system lets go of it when the process ends, however it ends.

    Raises ValueError, on every process, while another run holds it. Where a file system has no locks nothing is held.
    """
    lock, taken = FileLock(output / ".lock"), False
    if accelerator.is_main_process:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            taken = True
        except (OSError, NotImplementedError) as error:
            warnings.warn(f"{output} is not safe from a second run: it cannot be locked ({error})", stacklevel=2)
    try:
        if any_process(accelerator, taken):
            raise ValueError(f"output must not be another run's at work: one is under way in {output}")
        yield
    finally:
        lock.release()


def check_same_step(accelerator: Accelerator, step: int | None, output: Path) -> None:
    """Raise ValueError unless every process goes on from the same step: machines may see different folders."""
    if accelerator.num_processes == 1:
        return
    mine = torch.tensor([-1 if step is None else step], device=accelerator.device)
    steps = sorted(set(accelerator.gather(mine).tolist()))
    if len(steps) > 1:
        last = " and ".join("none" if number < 0 else f"that of step {number}" for number in steps)
        raise ValueError(
            f"output must be a folder that every process sees; in {output} they found the last checkpoint to be {last}"
        )
