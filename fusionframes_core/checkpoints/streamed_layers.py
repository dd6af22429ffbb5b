"""Weights that stay in main memory and come to the GPU block by block, the next block's while one computes.

A U-Net of 4.1 billion parameters then needs the memory of its two largest neighbouring blocks, not of all. Main memory
is pinned, so that a copy runs beside the work. Blocks run in the same order in every step, which the first one tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..models.temporal import TemporalLayer
from ..models.unet.unet_blocks import CrossAttentionBlock, ResNetBlock, SelfAttentionBlock
from .device_copies import Copies, copies_for

BLOCKS = (ResNetBlock, SelfAttentionBlock, CrossAttentionBlock, TemporalLayer)
"""What is streamed, each with all that is in it; embeddings and the first and last convolution stay on the device."""


def streamed_blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The outermost blocks of a U-Net that have weights."""
    for child in network.children():
        if not isinstance(child, BLOCKS):
            yield from streamed_blocks(child)
        elif any(True for _ in child.parameters()):
            yield child


@dataclass(eq=False)
class _Block:
    """A block's parameters, their tensors in main memory, and which block runs after it."""

    parameters: list[nn.Parameter]
    hosts: list[Tensor] = field(default_factory=list)
    following: _Block | None = None


class StreamedLayers:
    """A network that is in main memory, as one that works on a device while `open` has been called and `close` not."""

    def __init__(self, network: nn.Module, device: torch.device, copies: Copies | None = None) -> None:
        self.network, self.device = network, device
        self.copies = copies or copies_for(device)
        self.blocks = {block: _Block(list(block.parameters())) for block in streamed_blocks(network)}
        inside = {parameter for block in self.blocks.values() for parameter in block.parameters}
        self.others = [parameter for parameter in network.parameters() if parameter not in inside]
        self._coming: dict[_Block, tuple[list[Tensor], Any]] = {}
        self._before: tuple[_Block, Any] | None = None  # the block that ran last, and the end of its work
        self._unfinished = False  # a step has begun and not ended
        self._hooks: list[Any] = []
        self._kept: list[Tensor] = []

    @property
    def largest_pair(self) -> int:
        """Bytes of the two neighbouring blocks that are on the device together, at most."""
        sizes = [sum(parameter.nbytes for parameter in block.parameters) for block in self.blocks.values()]
        return max((left + right for left, right in zip(sizes, [*sizes[1:], 0], strict=True)), default=0)

    def open(self) -> nn.Module:
        """Bring what is not streamed to the device, and hang the rest on the blocks' calls."""
        for block in self.blocks.values():
            block.hosts = [self.copies.pinned(parameter.data) for parameter in block.parameters]
            _put(block.parameters, block.hosts)
        self._kept = [parameter.data for parameter in self.others]
        _put(self.others, [host.to(self.device) for host in self._kept])
        self._hooks.append(self.network.register_forward_pre_hook(self._begin))
        self._hooks.append(self.network.register_forward_hook(self._end))
        for module, block in self.blocks.items():
            self._hooks.append(module.register_forward_pre_hook(partial(self._enter, block)))
            self._hooks.append(module.register_forward_hook(partial(self._leave, block)))
        return self.network

    def close(self) -> None:
        """Everything back in main memory, also after a step or an `open` that was broken off."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._release_all()
        if self._kept:
            _put(self.others, self._kept)

    def _begin(self, *_: Any) -> None:
        """A step begins; what one that was broken off left on the device goes, and tells no order of blocks."""
        if self._unfinished:
            self._release_all()
        self._unfinished = True

    def _end(self, *_: Any) -> None:
        self._unfinished = False

    def _release_all(self) -> None:
        self.copies.finish(self.copies.mark())
        for block in list(self._coming):
            self._release(block)
        self._before, self._unfinished = None, False

    def _enter(self, block: _Block, *_: Any) -> None:
        """A block is called: its weights are there, or come now."""
        made, ready = self._coming.get(block) or self._start(block)
        self.copies.wait(ready)
        _put(block.parameters, made)

    def _leave(self, block: _Block, *_: Any) -> None:
        """A block's work has begun: what the one before had may go, what the next one needs may come."""
        _put(block.parameters, block.hosts)
        end = self.copies.mark()
        if self._before is not None:
            before, its_end = self._before
            before.following = before.following or block
            self.copies.finish(its_end)
            if before is not block:
                self._release(before)
        self._before = block, end
        if block.following is not None:
            self._start(block.following)

    def _start(self, block: _Block) -> tuple[list[Tensor], Any]:
        if block not in self._coming:
            self._coming[block] = self.copies.start(block.hosts)
        return self._coming[block]

    def _release(self, block: _Block) -> None:
        _put(block.parameters, block.hosts)
        self._coming.pop(block, None)


def _put(parameters: list[nn.Parameter], tensors: list[Tensor]) -> None:
    for parameter, tensor in zip(parameters, tensors, strict=True):
        parameter.data = tensor
