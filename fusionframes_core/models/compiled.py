"""Two ways to run a U-Net's steps faster than one kernel after the other: torch.compile, and CUDA graphs.

Both are choices, since both cost something first: torch.compile minutes of the processor, a graph the memory of its
activations for as long as the stage lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

COMPILES = ("none", "torch", "graphs")
MOST_GRAPHS = 3  # predictions of a step that run one after the other have one each


def check_compile(how: str, device: torch.device, offload: str) -> None:
    """Raise ValueError for a way that is not known, or not there on the device or with `offload`."""
    if how not in COMPILES:
        raise ValueError(f"compile must be one of {', '.join(COMPILES)}; got {how!r}")
    if how == "graphs" and device.type != "cuda":
        raise ValueError(f"compile must be none or torch on {device.type}; got 'graphs', which needs an NVIDIA GPU")
    if how != "none" and offload == "layers":
        raise ValueError(f"compile must be none with offload 'layers', whose weights come and go; got {how!r}")


def compile_network(network: nn.Module, how: str, **options: Any) -> nn.Module:
    """The same U-Net, run as `how` says; `options` are torch.compile's."""
    if how == "torch":
        network.compile(**options)
    elif how == "graphs":
        network.forward = GraphedForward(network.forward)
    return network


@dataclass(frozen=True)
class _Graph:
    """Recorded kernels, the tensors that they read and the one that they write."""

    graph: Any
    x: Tensor
    t: Tensor
    condition: Any  # held, so that its id stays its own
    out: Tensor


def can_record(x: Tensor) -> bool:
    """Whether there are graphs where a tensor is: elsewhere, as on a CPU that a model was moved to, steps just run."""
    return x.is_cuda


@contextmanager
def recording(graph: Any, device: torch.device, pool: Any) -> Iterator[None]:
    """Kernels on the device go into the graph; torch's own default stream for that is of one device for good."""
    with torch.cuda.device(device), torch.cuda.graph(graph, pool=pool, stream=torch.cuda.Stream(device)):
        yield


class GraphedForward:
    """A U-Net's forward whose kernels are recorded in the second step of a stage and replayed in all that follow.

    The first step runs as always: it builds kernels and computes what all steps have in common. A stage is known by its
    condition, which is one object for all its steps. Where the memory does not allow a graph beside what torch keeps
    for kernels that run, they go on running. Graphs share their memory: they are replayed one after the other, and what
    they give is copied.
    """

    def __init__(self, forward: Callable[[Tensor, Tensor, Any], Tensor]) -> None:
        self._forward = forward
        self._seen: dict[Any, Any] = {}  # conditions of first steps
        self._graphs: dict[Any, _Graph | None] = {}  # None: there was no memory for one
        self._pool: Any = None

    def __call__(self, x: Tensor, t: Tensor, condition: Any) -> Tensor:
        """As the U-Net's."""
        if torch.is_grad_enabled() or not can_record(x):
            return self._forward(x, t, condition)
        key = (id(condition), x.shape, x.dtype, x.device, t.shape, t.dtype)
        if self._seen.get(key) is not condition:
            self._begin(key, condition)
            return self._forward(x, t, condition)
        if key not in self._graphs:
            self._graphs[key] = self._recorded(x, t, condition)
        recorded = self._graphs[key]
        if recorded is None:
            return self._forward(x, t, condition)
        recorded.x.copy_(x)
        recorded.t.copy_(t)
        recorded.graph.replay()
        return recorded.out.clone()

    def forget(self) -> None:
        """Give the graphs' memory back: the stage is over."""
        self._seen.clear()
        self._graphs.clear()
        self._pool = None

    def _begin(self, key: Any, condition: Any) -> None:
        while len(self._seen) >= MOST_GRAPHS:
            oldest = next(iter(self._seen))
            del self._seen[oldest]
            self._graphs.pop(oldest, None)
        self._seen[key] = condition

    def _recorded(self, x: Tensor, t: Tensor, condition: Any) -> _Graph | None:
        try:
            return self._record(x.clone(), t.clone(), condition)
        except torch.OutOfMemoryError:
            return None

    def _record(self, x: Tensor, t: Tensor, condition: Any) -> _Graph:
        graph = torch.cuda.CUDAGraph()
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        with recording(graph, x.device, self._pool):
            out = self._forward(x, t, condition)
        return _Graph(graph, x, t, condition, out)


def forget_graphs(network: nn.Module) -> None:
    """Give the memory of a network's graphs back, if it has any."""
    if isinstance(network.forward, GraphedForward):
        network.forward.forget()
