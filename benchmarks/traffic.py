"""`python -m benchmarks.traffic`: bytes that the kernels of each stage read and write on a GPU, without a GPU.

The stages run on meta tensors at full size, in bf16; of sampling it is a step after the first that counts. Every
operation that a CUDA build of torch runs as a kernel counts what it reads and writes, and so do the passes that torch
hides behind an operation there:

- a convolution's bias is a pass of its own over the result; an input, or weights, that are not channels-last beside
  one that is are copied first; where none is, cuDNN turns all three around inside;
- group norm takes a channels-last tensor apart first and gives a contiguous one back;
- attention is one pass over its operands, but for heads of more than 256 channels, which no fused kernel takes.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.our_stages import FULL, OUR_STAGES, SMALL, Extent, OurStage, Place
from fusionframes_core.kernels import fused_operations
from fusionframes_core.kernels.kernel_choice import fused_kernels
from fusionframes_core.kernels.wide_attention import WIDEST_FUSED

aten = torch.ops.aten
ours = getattr(torch.ops, fused_operations.NAMESPACE)

KINDS: tuple[str, ...] = (
    "convolution",
    "layout",
    "bias",
    "norm",
    "modulation",
    "SiLU",
    "residual",
    "merge",
    "attention",
    "product",
)
KINDS += ("other",)
KIND_OF = {
    aten.convolution: "convolution",
    aten.native_group_norm: "norm",
    aten.silu: "SiLU", aten.silu_: "SiLU",
    aten.add: "residual", aten.add_: "residual",
    aten.lerp: "merge", aten.lerp_: "merge",
    aten.clone: "layout", aten.copy_: "layout", aten.cat: "layout", aten._to_copy: "layout",
    aten.addmm: "product", aten.addmm_: "product", aten.mm: "product",
    aten.bmm: "attention", aten.baddbmm: "attention", aten._softmax: "attention",
    ours.softmax: "attention",
}  # fmt: skip
NO_KERNEL = {aten.empty, aten.new_empty, aten.empty_like, aten.empty_strided, aten.new_empty_strided}


def distinct_bytes(tensor: Tensor) -> int:
    """Bytes of the numbers in memory behind a tensor: an expanded axis counts once."""
    sizes = (size if stride else 1 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return torch.Size(sizes).numel() * tensor.element_size()


LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def is_channels_last(tensor: Tensor) -> bool:
    """Whether torch takes the tensor (N, C, H, W) or (N, C, T, H, W) for channels-last."""
    return tensor.ndim in LAST and tensor.is_contiguous(memory_format=LAST[tensor.ndim])


class TrafficCounter(TorchDispatchMode):
    """Counts bytes by kind of kernel; results of convolutions and group norms get the layout of a GPU's."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[str] = Counter()
        self.kernels: Counter[str] = Counter()

    def count(self, kind: str, *tensors: Tensor | None) -> None:
        """One kernel that reads or writes each of `tensors` once."""
        self.bytes[kind] += sum(distinct_bytes(tensor) for tensor in tensors if tensor is not None)
        self.kernels[kind] += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        packet = func.overloadpacket
        if packet in COUNTERS:
            return COUNTERS[packet](self, out, *args)
        read = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
        if packet in NO_KERNEL or _is_view(func, out, read):
            return out
        if packet is aten.copy_:
            read = read[1:]
        written = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        self.count(KIND_OF.get(packet, "other"), *read, *written)
        return out


def _is_view(func: Any, out: Any, read: Sequence[Tensor]) -> bool:
    """Whether `out` is an operand in another shape: nothing was written."""
    if func._schema.is_mutable:
        return False
    places = {tensor.untyped_storage()._cdata for tensor in read}
    return all(leaf.untyped_storage()._cdata in places for leaf in tree_leaves(out) if isinstance(leaf, Tensor))


def _convolution(counter: TrafficCounter, out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, *_: Any) -> Any:
    counter.count("convolution", x, weight, out)
    last = [is_channels_last(x), is_channels_last(weight)]
    turned = [tensor for tensor, lies in zip((x, weight), last, strict=True) if not lies]
    if not any(last):
        turned.append(out)
    for tensor in turned:
        counter.count("layout", tensor, tensor)
    if bias is not None:
        counter.count("bias", out, out, bias)
    return out.contiguous(memory_format=LAST[out.ndim] if any(last) else torch.contiguous_format)


def _group_norm(counter: TrafficCounter, out: Any, x: Tensor, *_: Any) -> Any:
    result, *moments = out
    if not x.is_contiguous():
        counter.count("layout", x, x)
    counter.count("norm", x)
    counter.count("norm", x, result)
    return result.contiguous(), *moments


def _addcmul(counter: TrafficCounter, out: Tensor, x: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """shift + fresh · scale is a modulation, x + weight · fresh a merge."""
    counter.count("merge" if first.numel() < second.numel() else "modulation", x, first, second, out)
    return out


def _fused_norm(counter: TrafficCounter, out: Tensor, x: Tensor, *how: Any) -> Tensor:
    if not is_channels_last(x):
        counter.count("layout", x, x)
    counter.count("norm", x)
    counter.count("norm", x, out, *(part for part in how if isinstance(part, Tensor)))
    return out


def _fused_merge(counter: TrafficCounter, out: Tensor, x: Tensor, fresh: Tensor, *how: Any) -> Tensor:
    counter.count("merge", x, fresh, out, *(part for part in how if isinstance(part, Tensor)))
    return out


COUNTERS: dict[Any, Callable[..., Any]] = {
    aten.convolution: _convolution,
    aten.native_group_norm: _group_norm,
    aten.addcmul: _addcmul,
    ours.group_norm: _fused_norm,
    ours.merge: _fused_merge,
    ours.merge_: _fused_merge,
}


class AttentionCounter(TorchFunctionMode):
    """Counts scaled_dot_product_attention as a GPU runs it: on meta tensors torch writes it out."""

    def __init__(self, counter: TrafficCounter) -> None:
        super().__init__()
        self.counter = counter

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, key, value = args[:3]
        out = query.new_empty((*query.shape[:-1], value.shape[-1]))
        if query.shape[-1] <= WIDEST_FUSED:
            self.counter.count("attention", query, key, value, out)
            return out
        wide = [part.new_empty(part.shape, dtype=torch.float32) for part in (query, key, value, out)]
        scores = query.new_empty((*query.shape[:-1], key.shape[-2]), dtype=torch.float32)
        for before, after in zip((query, key, value, out), wide, strict=True):
            self.counter.count("attention", before, after)  # to float32 and back
        self.counter.count("attention", *wide[:2], scores)
        self.counter.count("attention", scores, scores)
        self.counter.count("attention", scores, *wide[2:])
        return out


@dataclass(frozen=True)
class Traffic:
    """What one run of a stage moves and in how many kernels, by kind."""

    stage: str
    kernels: str  # "torch" or "fused"
    gigabytes: dict[str, float]
    launches: dict[str, int]


@torch.no_grad()
def measure(stage: OurStage, extent: Extent, fused: bool) -> Traffic:
    """Run one stage on meta tensors, with the fused kernels or with torch's own."""
    with fused_kernels(fused):
        _, work = stage.build(extent, Place("meta", torch.bfloat16))
        work()  # what the steps of a stage have in common is computed in the first
        counter = TrafficCounter()
        with counter, AttentionCounter(counter):
            work()
    gigabytes = {kind: counter.bytes[kind] / 1e9 for kind in KINDS}
    return Traffic(stage.name, "fused" if fused else "torch", gigabytes, dict(counter.kernels))


def table(rows: Sequence[Traffic], bandwidth: float) -> str:
    """Gigabytes by kind, their sum, what that takes at `bandwidth` TB/s, and the number of kernels."""
    head = ["stage", "kernels", *KINDS, "GB", f"ms at {bandwidth:g} TB/s", "launches"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        total = sum(row.gigabytes.values())
        cells = [f"{row.gigabytes[kind]:.1f}" for kind in KINDS]
        launches = sum(row.launches.values())
        lines.append([row.stage, row.kernels, *cells, f"{total:.1f}", f"{total / bandwidth:.0f}", str(launches)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one row per stage and kind of kernels."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.traffic", description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="TEXT", default="", help="only stages whose name contains TEXT")
    parser.add_argument("--bandwidth", type=float, default=3.35, help="TB/s of the card's memory (H100 SXM: 3.35)")
    parser.add_argument("--small", action="store_true", help="small models: checks that every stage runs")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    stages = [stage for stage in OUR_STAGES if options.only in stage.name]
    if not stages:
        parser.error(f"--only {options.only!r} names no stage of {', '.join(stage.name for stage in OUR_STAGES)}")
    extent = SMALL if options.small else FULL
    rows = [measure(stage, extent, fused) for stage in stages for fused in (False, True)]
    print(json.dumps([vars(row) for row in rows]) if options.json else table(rows, options.bandwidth))


if __name__ == "__main__":
    main()
