"""Where the model lies: on one device, on one in every process, or in shards over all of them; compiled or not."""

from __future__ import annotations

import functools
import math
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

from fusionframes_core.models.layout import channels_last
from fusionframes_core.models.movq.movq_temporal import ResnetBlock
from fusionframes_core.models.unet.temporal_layers import TemporalAttentionBlock
from fusionframes_core.models.unet.unet_blocks import SelfAttentionBlock, Stage

from .run_settings import TrainSettings

CHECKPOINTED = (Stage, SelfAttentionBlock, TemporalAttentionBlock, ResnetBlock)
SHARDED = (Stage,)
GRAPHS = 256  # that may be compiled of one function: every block of another width is one


def full_tensor(tensor: Tensor) -> Tensor:
    """All of a tensor on the CPU. Every process has to call it: a sharded one is gathered."""
    tensor = tensor.detach()
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).cpu()


def local_shard(tensor: Tensor) -> Tensor:
    """This process's shard of a tensor, or the tensor itself; it shares its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def own_rows(tensor: DTensor) -> tuple[int, int]:
    """Which rows of the whole this process's shard has: [first, last). FSDP cuts as torch.chunk does."""
    first = tensor.device_mesh.get_local_rank() * math.ceil(len(tensor) / tensor.device_mesh.size())
    return first, first + len(tensor.to_local())


def reshard(model: nn.Module) -> None:
    """Let go of what FSDP gathered for a forward pass without a backward one, before the weights change."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def checkpoint_activations(model: nn.Module) -> None:
    """Compute the activations inside every block again in the backward pass instead of keeping them."""
    for module in model.modules():
        if isinstance(module, CHECKPOINTED):
            module.forward = functools.partial(  # type: ignore[method-assign]
                checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False
            )


def compile_blocks(model: nn.Module) -> None:
    """Let torch.compile fuse the inside of every block, or of a model without any the whole; names stay as they are.

    One block after the other: the whole network as one graph would take many times as long to compile.
    """
    config = torch._dynamo.config
    limit = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"  # its name up to torch 2.5
    setattr(config, limit, max(GRAPHS, getattr(config, limit)))
    blocks: list[nn.Module] = [module for module in model.modules() if isinstance(module, CHECKPOINTED)]
    for block in blocks or [model]:
        block.compile(dynamic=False)  # every width a graph of its own: as variables, sizes take no kernel well


def shard_fully(model: nn.Module, device: torch.device, precision: str) -> nn.Module:
    """Spread parameters, gradients and optimizer states over all processes (FSDP). Raises ValueError for fp16."""
    if precision == "fp16":
        raise ValueError("shard full needs mixed_precision no or bf16; got 'fp16'")
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if precision == "bf16" else MixedPrecisionPolicy()
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for module in model.modules():
        if isinstance(module, SHARDED):
            fully_shard(module, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)  # which changes the model's class in its place
    return model


def place_model(accelerator: Accelerator, model: nn.Module, settings: TrainSettings) -> nn.Module:
    """The model on its device, as the settings want it laid out and computed; not yet what processes share of it."""
    if settings.activation_checkpointing:
        checkpoint_activations(model)
    if settings.compile:
        compile_blocks(model)
    model.to(accelerator.device)
    if settings.channels_last:
        channels_last(model)
    if settings.shard == "full" and accelerator.num_processes > 1:
        return shard_fully(model, accelerator.device, str(settings.mixed_precision))
    return model


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
