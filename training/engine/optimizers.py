"""The optimizer of a run: which one, and its states by the parameters' names, whoever holds them."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor

from .checkpoint_parts import StoredPart, own_portion
from .run_settings import TrainSettings
from .sharding import full_tensor, own_rows, trainable_of


def prepare(
    accelerator: Accelerator, model: nn.Module, settings: TrainSettings
) -> tuple[nn.Module, Any, list[nn.Parameter]]:
    """A placed model and its optimizer as this run's processes share them, and the trainable parameters."""
    optimizer = make_optimizer(trainable_of(model), settings)
    if settings.shard == "full" and accelerator.num_processes > 1:
        return model, optimizer, trainable_of(model)
    placed = [True, settings.shard == "none"]  # ZeRO gathers its states when asked to move them
    model, optimizer = accelerator.prepare(model, optimizer, device_placement=placed)
    return model, optimizer, trainable_of(accelerator.unwrap_model(model))


def make_optimizer(parameters: list[nn.Parameter], settings: TrainSettings) -> torch.optim.Optimizer:
    """AdamW of the kind that the settings name, in one kernel on a GPU. Raises ImportError without bitsandbytes."""
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
    elif all(parameter.is_cuda for parameter in parameters):
        options["fused"] = True
    if settings.shard == "optimizer" and dist.is_initialized():
        return ZeroRedundancyOptimizer(parameters, optimizer_class=kind, **options)
    return kind(parameters, **options)


def clip_gradients(accelerator: Accelerator, trainable: list[nn.Parameter], settings: TrainSettings) -> float:
    """Clip the gradients' norm over all processes to `clip_norm`; the norm before that."""
    if settings.shard == "full" and accelerator.num_processes > 1:
        return float(full_tensor(nn.utils.clip_grad_norm_(trainable, settings.clip_norm)))
    return float(accelerator.clip_grad_norm_(trainable, settings.clip_norm))


def own_optimizer(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """What holds this process's states: with ZeRO an optimizer of some of the parameters."""
    return optimizer.optim if isinstance(optimizer, ZeroRedundancyOptimizer) else optimizer


def optimizer_portion(
    optimizer: torch.optim.Optimizer, names: list[str], parameters: list[nn.Parameter], rank: int, processes: int
) -> dict[str, Tensor]:
    """What the process `rank` writes of the states, as `<name>/<key>`: with ZeRO the states that it has at all."""
    zero = isinstance(optimizer, ZeroRedundancyOptimizer)
    states = own_optimizer(optimizer).state
    tensors = {
        f"{name}/{key}": value if isinstance(value, Tensor) else torch.tensor(value)
        for name, parameter in zip(names, parameters, strict=True)
        for key, value in states.get(parameter, {}).items()
    }
    return own_portion(tensors, 0, 1) if zero else own_portion(tensors, rank, processes)


def load_optimizer(
    optimizer: torch.optim.Optimizer, names: list[str], parameters: list[nn.Parameter], stored: StoredPart
) -> None:
    """The inverse of `optimizer_portion`, whoever wrote the states."""
    own = own_optimizer(optimizer)
    held = {id(parameter) for group in own.param_groups for parameter in group["params"]}
    index = {name: place for place, name in enumerate(names) if id(parameters[place]) in held}
    state: dict[int, dict[str, Any]] = {}
    for key, shape in stored.shapes().items():
        name, _, entry = key.rpartition("/")
        if name in index:
            value = _restored(stored, key, shape, parameters[index[name]])
            state.setdefault(index[name], {})[entry] = value
    groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    groups[0]["params"] = list(range(len(names)))
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for group in own.param_groups:
        if group.get("fused"):  # ZeRO puts the step counts on the CPU, where the fused kernel cannot read them
            for parameter in group["params"]:
                own.state[parameter]["step"] = own.state[parameter]["step"].to(parameter.device)


def _restored(stored: StoredPart, key: str, shape: tuple[int, ...], parameter: nn.Parameter) -> Any:
    if isinstance(parameter, DTensor) and shape == tuple(parameter.shape):
        rows = stored.rows(key, *own_rows(parameter)).to(parameter.device)
        return DTensor.from_local(
            rows,
            parameter.device_mesh,
            parameter.placements,
            run_check=False,
            shape=parameter.shape,
            stride=parameter.stride(),
        )
    value = stored.tensor(key)
    if value.shape == parameter.shape:  # in the parameter's layout, which fused kernels read beside it, place by place
        return torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)
    # A step count that is no tensor in the optimizer (bitsandbytes) comes back as a number.
    return int(value) if value.ndim == 0 and not value.is_floating_point() else value
