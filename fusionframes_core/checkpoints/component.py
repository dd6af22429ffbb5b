"""What a model is made of: one entry for each kind of component."""

from __future__ import annotations

from typing import Any

import torch

from ..config import InterpolationConfig, MoVQConfig, UNetConfig
from ..models.casting import FP8, operations_for
from ..models.layers import TorchOperations
from ..models.movq.movq import MoVQ
from ..models.unet.interpolation_unet import InterpolationUNet
from ..models.unet.unet import UNet
from .state_dict import Sources, load_sources

MODEL_CLASSES: dict[type, Any] = {UNetConfig: UNet, InterpolationConfig: InterpolationUNet, MoVQConfig: MoVQ}


def build(
    config: UNetConfig | InterpolationConfig | MoVQConfig,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    operations: Any = TorchOperations,
) -> Any:
    """The model that `config` describes, with memory but no weights (device "meta": not even memory)."""
    return MODEL_CLASSES[type(config)](config, operations, device=device, dtype=dtype)


def load_network(
    config: UNetConfig | InterpolationConfig | MoVQConfig,
    sources: Sources,
    dtype: torch.dtype,
    device: torch.device | str,
) -> Any:
    """The U-Net or autoencoder of a configuration, from several files' tensors, in evaluation mode."""
    network = build(config, device="meta", operations=operations_for(dtype))
    load_sources(network, sources, device, dtype)
    return network.eval().requires_grad_(False)


def part_dtype(name: str, dtype: torch.dtype) -> torch.dtype:
    """The type that a part is kept in when the model is asked for in `dtype`.

    T5 overflows in fp16, and bf16 takes the same memory; in 8 bits only the U-Nets are worth it.
    """
    if name == "text_encoder" and dtype in (torch.float16, FP8):
        return torch.bfloat16
    return torch.bfloat16 if name in ("movq", "image_movq") and dtype == FP8 else dtype
