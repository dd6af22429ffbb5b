"""Parameters and optimizer states of one process or sharded over several: gathered, and distributed again.

A checkpoint holds full tensors by name, whatever the number of processes and the way they share the work, so that a
run can be resumed by any other number.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils.checkpoint import checkpoint

from fusionframes_core.models.movq.movq_temporal import ResnetBlock
from fusionframes_core.models.unet.temporal_layers import TemporalAttentionBlock
from fusionframes_core.models.unet.unet_blocks import SelfAttentionBlock, Stage

from .run_settings import TrainSettings

CHECKPOINTED = (Stage, SelfAttentionBlock, TemporalAttentionBlock, ResnetBlock)
SHARDED = (Stage,)


def full_tensor(tensor: Tensor) -> Tensor:
    """All of a tensor on the CPU. Every process has to call it: a sharded one is gathered."""
    tensor = tensor.detach()
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).cpu()


@torch.no_grad()
def copy_into(target: Tensor, value: Tensor) -> None:
    """Copy a full tensor into `target`, which may be one process's shard of it."""
    if isinstance(target, DTensor):
        value = distribute_tensor(value.to(target.device), target.device_mesh, target.placements)
    target.copy_(value)


def checkpoint_activations(model: nn.Module) -> None:
    """Compute the activations inside every block again in the backward pass instead of keeping them."""
    for module in model.modules():
        if isinstance(module, CHECKPOINTED):
            module.forward = functools.partial(  # type: ignore[method-assign]
                checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False
            )


def shard_fully(model: nn.Module, device: torch.device, precision: str) -> nn.Module:
    """Spread parameters, gradients and optimizer states over all processes (FSDP). Raises ValueError for fp16."""
    if precision == "fp16":
        raise ValueError("shard full needs mixed_precision no or bf16; got 'fp16'")
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if precision == "bf16" else MixedPrecisionPolicy()
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    model.to(device)
    for module in model.modules():
        if isinstance(module, SHARDED):
            fully_shard(module, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)  # which changes the model's class in its place
    return model


def place_model(
    accelerator: Accelerator, model: nn.Module, settings: TrainSettings
) -> tuple[nn.Module, Any, list[nn.Parameter]]:
    """The model and its optimizer as this run's processes share them, and the trainable parameters."""
    if settings.shard == "full" and accelerator.num_processes > 1:
        model = shard_fully(model, accelerator.device, str(settings.mixed_precision))
        trainable = trainable_of(model)
        return model, make_optimizer(trainable, settings), trainable
    optimizer = make_optimizer(trainable_of(model), settings)
    placed = [True, settings.shard == "none"]  # ZeRO gathers its states when asked to move them
    model, optimizer = accelerator.prepare(model, optimizer, device_placement=placed)
    return model, optimizer, trainable_of(accelerator.unwrap_model(model))


def trainable_of(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that are not frozen."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def gradient_sync(
    accelerator: Accelerator, model: nn.Module, settings: TrainSettings, last: bool
) -> AbstractContextManager:
    """Around a backward pass: the processes add up their gradients only after the `last` micro-batch of a step."""
    if last or settings.shard == "full":  # which adds them up each time: the same sum
        return nullcontext()
    return accelerator.no_sync(model)


def clip_gradients(accelerator: Accelerator, trainable: list[nn.Parameter], settings: TrainSettings) -> float:
    """Clip the gradients' norm over all processes to `clip_norm`; the norm before that."""
    if settings.shard == "full" and accelerator.num_processes > 1:
        return float(full_tensor(nn.utils.clip_grad_norm_(trainable, settings.clip_norm)))
    return float(accelerator.clip_grad_norm_(trainable, settings.clip_norm))


def make_optimizer(parameters: list[nn.Parameter], settings: TrainSettings) -> torch.optim.Optimizer:
    """AdamW of the kind that the settings name. Raises ImportError without bitsandbytes for 8 bits."""
    options: dict[str, Any] = {
        "lr": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "betas": tuple(settings.betas),
    }
    kind: Any = torch.optim.AdamW
    if settings.optimizer == "adamw8bit":
        if importlib.util.find_spec("bitsandbytes") is None:
            raise ImportError("optimizer adamw8bit needs the package bitsandbytes, which is not installed")
        kind = importlib.import_module("bitsandbytes").optim.AdamW8bit
    if settings.shard == "optimizer" and dist.is_initialized():
        return ZeroRedundancyOptimizer(parameters, optimizer_class=kind, **options)
    return kind(parameters, **options)


def optimizer_state(optimizer: torch.optim.Optimizer, names: list[str], parameters: list[nn.Parameter]) -> dict:
    """Full states as `<name>/<key>` tensors. Every process has to call it; with ZeRO the first has the result."""
    if isinstance(optimizer, ZeroRedundancyOptimizer):
        optimizer.consolidate_state_dict(to=0)
        if dist.get_rank():
            return {}
        state = optimizer.state_dict()["state"]
        states = {name: state.get(index, {}) for index, name in enumerate(names)}
    else:
        states = {name: optimizer.state.get(p, {}) for name, p in zip(names, parameters, strict=True)}
    return {
        f"{name}/{key}": full_tensor(value if isinstance(value, Tensor) else torch.tensor(value))
        for name, entries in states.items()
        for key, value in entries.items()
    }


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, names: list[str], parameters: list[nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """The inverse of `optimizer_state`, on every process."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        name, _, entry = key.rpartition("/")
        index = names.index(name)
        like = parameters[index]
        if isinstance(like, DTensor) and value.shape == like.shape:
            value = distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
        # A step count that is no tensor in the optimizer (bitsandbytes) comes back as a number.
        state.setdefault(index, {})[entry] = int(value) if value.ndim == 0 and not value.is_floating_point() else value
    groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    groups[0]["params"] = list(range(len(names)))
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def local_shards(tensors: list[Any]) -> list[Tensor]:
    """This process's shards, which share memory with `tensors`."""
    return [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]


class Average:
    """Exponential moving average of the trainable parameters, in each process's own shard of them."""

    def __init__(self, parameters: list[nn.Parameter], decay: float) -> None:
        self.parameters, self.decay, self.count = parameters, decay, 0
        self.values = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Average in the parameters after one more step; the first ones are copied."""
        if self.count == 0:
            torch._foreach_copy_(local_shards(self.values), local_shards(self.parameters))
        else:
            torch._foreach_lerp_(local_shards(self.values), local_shards(self.parameters), 1 - self.decay)
        self.count += 1

    @contextmanager
    @torch.no_grad()
    def applied(self) -> Iterator[None]:
        """The model has the averaged weights meanwhile."""
        kept = [shard.clone() for shard in local_shards(self.parameters)]
        self.apply()
        try:
            yield
        finally:
            torch._foreach_copy_(local_shards(self.parameters), kept)

    @torch.no_grad()
    def apply(self) -> None:
        """Give the model the averaged weights for good."""
        torch._foreach_copy_(local_shards(self.parameters), local_shards(self.values))
