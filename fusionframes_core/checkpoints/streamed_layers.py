"""Weights that stay in main memory and come to the GPU block by block, the next block's while one computes.

A U-Net of 4.1 billion parameters then needs the memory of its two largest neighbouring blocks, not of all. Main memory
is pinned, so that a copy runs beside the work. Blocks run in the same order in every step, which the first one tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..models.temporal import TemporalLayer
from ..models.unet.unet_blocks import CrossAttentionBlock, ResNetBlock, SelfAttentionBlock

BLOCKS = (ResNetBlock, SelfAttentionBlock, CrossAttentionBlock, TemporalLayer)
"""What is streamed, each with all that is in it; embeddings and the first and last convolution stay on the device."""


def streamed_blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The outermost blocks of a U-Net that have weights."""
    for child in network.children():
        if not isinstance(child, BLOCKS):
            yield from streamed_blocks(child)
        elif any(True for _ in child.parameters()):
            yield child


class Copies(Protocol):
    """Brings tensors to a device beside the work there."""

    def pinned(self, host: Tensor) -> Tensor:
        """A tensor of main memory where copies from it are fast."""

    def start(self, hosts: list[Tensor]) -> tuple[list[Tensor], Any]:
        """Copies on the device, and what says when they are there."""

    def wait(self, ready: Any) -> None:
        """Let the work that follows begin when the copies are there."""

    def mark(self) -> Any:
        """The end of the work so far."""

    def finish(self, mark: Any) -> None:
        """Return when that work is done: what it read may go."""


class PlainCopies:
    """On devices without streams, one after the other."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def pinned(self, host: Tensor) -> Tensor:
        return host

    def start(self, hosts: list[Tensor]) -> tuple[list[Tensor], Any]:
        return [torch.empty_like(host, device=self.device).copy_(host) for host in hosts], None

    def wait(self, ready: Any) -> None:
        pass

    def mark(self) -> Any:
        return None

    def finish(self, mark: Any) -> None:
        pass


class StreamCopies:
    """On a GPU, by a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.stream = device, torch.cuda.Stream(device)

    def pinned(self, host: Tensor) -> Tensor:
        return host if host.is_pinned() else host.pin_memory()

    def start(self, hosts: list[Tensor]) -> tuple[list[Tensor], Any]:
        with torch.cuda.stream(self.stream):
            made = [torch.empty_like(host, device=self.device).copy_(host, non_blocking=True) for host in hosts]
            return made, self.stream.record_event()

    def wait(self, ready: Any) -> None:
        torch.cuda.current_stream(self.device).wait_event(ready)

    def mark(self) -> Any:
        return torch.cuda.current_stream(self.device).record_event()

    def finish(self, mark: Any) -> None:
        mark.synchronize()


def copies_for(device: torch.device) -> Copies:
    """How tensors come to a device."""
    return StreamCopies(device) if device.type == "cuda" else PlainCopies(device)


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
        for module, block in self.blocks.items():
            self._hooks.append(module.register_forward_pre_hook(partial(self._enter, block)))
            self._hooks.append(module.register_forward_hook(partial(self._leave, block)))
        return self.network

    def close(self) -> None:
        """Everything back in main memory, also after a step that was broken off."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        for block in self.blocks.values():
            _put(block.parameters, block.hosts)
        _put(self.others, self._kept)
        self.copies.finish(self.copies.mark())
        self._coming.clear()
        self._before = None

    def _enter(self, block: _Block, *_: Any) -> None:
        """A block is called: its weights are there, or come now."""
        working = None if self._before is None else self._before[0]
        for other in [other for other in self._coming if other not in (block, working)]:
            self._release(other)  # of a step that was broken off
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
