"""The base under adapters as it is kept on the card: in 32 or 16 bits, or packed to 8 or 4 by bitsandbytes."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fusionframes_core.checkpoints.component import Component, build

from .frozen_layers import FrozenOperations, pack_layers

BLOCK = {8: 256, 4: 64}
"""Numbers that share a scale, by bits: 8-bit dynamic floats, 4-bit normal floats (NF4)."""


class BlockwiseWeight(nn.Module):
    """A weight in 8 or 4 bits with a scale for each block, by bitsandbytes (arXiv 2110.02861, 2305.14314).

    On the meta device it has the size of one, and no numbers.
    """

    codes: Tensor

    def __init__(self, weight: Tensor, bits: int) -> None:
        super().__init__()
        self.bits, self.shape, self.dtype = bits, weight.shape, weight.dtype
        if weight.is_meta:
            scales = -(-weight.numel() // BLOCK[bits]) * torch.float32.itemsize
            codes = weight.new_empty(weight.numel() * bits // 8 + scales, dtype=torch.uint8)
        elif bits == 4:
            codes, self.state = bitsandbytes().quantize_4bit(weight.contiguous(), blocksize=BLOCK[4], quant_type="nf4")
        else:
            codes, self.state = bitsandbytes().quantize_blockwise(weight.contiguous(), blocksize=BLOCK[8])
        self.register_buffer("codes", codes, persistent=False)

    def dense(self) -> Tensor:
        """The weight in the type and shape that it had, but for rounding."""
        if self.codes.is_meta:
            return self.codes.new_empty(self.shape, dtype=self.dtype)
        if self.state.absmax.device != self.codes.device:
            self.state.to(self.codes.device)
        if self.bits == 4:
            return bitsandbytes().dequantize_4bit(self.codes, self.state)
        return bitsandbytes().dequantize_blockwise(self.codes, self.state)


def bitsandbytes() -> Any:
    """The functions of the package, which is optional."""
    return importlib.import_module("bitsandbytes").functional


@dataclass(frozen=True)
class BaseKind:
    """How a frozen base is kept: the type of its weights, and the bits that most of them are packed to (0: none)."""

    dtype: torch.dtype
    bits: int = 0

    @property
    def operations(self) -> Any:
        """The namespace that its layers are made from; None: the model's own."""
        return None if self.dtype == torch.float32 else FrozenOperations


BASES = {
    "fp32": BaseKind(torch.float32),
    "bf16": BaseKind(torch.bfloat16),
    "8bit": BaseKind(torch.bfloat16, 8),
    "4bit": BaseKind(torch.bfloat16, 4),
}


def check_base(name: str) -> BaseKind:
    """The kind of that name. Raises ValueError for an unknown one, and where its package is missing."""
    if name not in BASES:
        raise ValueError(f"base must be one of {', '.join(BASES)}; got {name!r}")
    if BASES[name].bits and importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(f"base {name} needs the package bitsandbytes, which is not installed; bf16 needs none")
    return BASES[name]


def load_base(component: Component, kind: BaseKind, device: torch.device) -> nn.Module:
    """The U-Net of `component` with frozen weights; packed ones are packed on `device`, a layer at a time.

    Raises CheckpointError when a file does not fit.
    """
    operations = kind.operations
    unet = component.load(kind.dtype, "cpu", operations) if operations else component.load(kind.dtype)
    if kind.bits:
        pack_layers(unet, lambda weight: BlockwiseWeight(weight.to(device), kind.bits))
    return unet.requires_grad_(False)


def counted_base(config: Any, kind: BaseKind) -> nn.Module:
    """A U-Net as `load_base` keeps it, for the meta device."""
    operations = {"operations": kind.operations} if kind.operations else {}
    unet = build(config, device="meta", dtype=kind.dtype, **operations)
    if kind.bits:
        pack_layers(unet, lambda weight: BlockwiseWeight(weight, kind.bits))
    return unet.requires_grad_(False)
