"""A recorded step gives the bits of a step that runs; what is recorded is what a GPU would replay."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fusionframes_core.checkpoints.open_model import open_model
from fusionframes_core.models import compiled
from fusionframes_core.models.compiled import MOST_GRAPHS, GraphedForward, check_compile, compile_network, forget_graphs
from fusionframes_core.models.stage_memo import StageMemo
from fusionframes_core.models.unet.interpolation_unet import InterpolationCondition, InterpolationUNet
from fusionframes_core.models.unet.unet import KeyframeCondition, UNet
from fusionframes_core.pipeline import FusionFramesPipeline
from tests.helpers.unet_cases import interpolation_config, randomise, video_config


class Recorder(TorchDispatchMode):
    """Stands in for a CUDA graph: it keeps every operation with the tensors themselves, and runs them again."""

    def __init__(self) -> None:
        super().__init__()
        self.work: list[tuple[Any, Any, Any, Any]] = []
        self.replays = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.work.append((func, args, kwargs or {}, out))
        return out

    def replay(self) -> None:
        """What was in the tensors is gone, as on a GPU, but for what comes from outside."""
        self.replays += 1
        for func, args, kwargs, out in self.work:
            made = func(*args, **kwargs)
            for old, new in zip(tree_leaves(out), tree_leaves(made), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    """Those that were made."""
    made: list[Recorder] = []

    def begin() -> Recorder:
        made.append(Recorder())
        return made[-1]

    @contextmanager
    def recording(graph: Recorder, device: torch.device, pool: Any) -> Any:
        assert (device, pool) == (torch.device("cpu"), "the pool")
        with graph:
            yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", begin)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "the pool")
    monkeypatch.setattr(compiled, "recording", recording)
    monkeypatch.setattr(compiled, "can_record", lambda x: True)
    return made


def keyframe_case() -> tuple[UNet, torch.Tensor, Any]:
    unet = randomise(UNet(video_config("conv1d_attn1d_blocks", temporal_conditioning="separate")))
    seen = KeyframeCondition(torch.randn(2, 5, 24), torch.ones(2, 5) > 0, torch.arange(2.0).expand(2, -1))
    return unet.eval().requires_grad_(False), torch.randn(3, 2, 4, 2, 4, 4), seen


def interpolation_case() -> tuple[InterpolationUNet, torch.Tensor, Any]:
    unet, on = randomise(InterpolationUNet(interpolation_config())), torch.tensor([True, False])
    text = torch.randn(2, 5, 24), torch.ones(2, 5) > 0
    seen = InterpolationCondition(torch.randn(2, 4, 3, 4, 4), *text, torch.tensor([3, 3]), torch.zeros(2), on)
    return unet.eval().requires_grad_(False), torch.randn(3, 2, 12, 2, 4, 4), seen


@pytest.mark.parametrize("case", [keyframe_case, interpolation_case])
def test_a_replayed_step_keeps_every_bit(case: Any, recorders: list[Recorder]) -> None:
    unet, noisy, condition = case()
    times = [torch.full((2,), time) for time in (900, 500, 20)]
    with torch.no_grad():
        conditions = replace(condition, memo=StageMemo()), replace(condition, memo=StageMemo())
        expected = [unet(x, t, conditions[0]) for x, t in zip(noisy, times, strict=True)]
        compile_network(unet, "graphs")
        found = [unet(x, t, conditions[1]) for x, t in zip(noisy, times, strict=True)]
    assert all(torch.equal(left, right) for left, right in zip(found, expected, strict=True))
    assert [recorder.replays for recorder in recorders] == [2], "recorded in the second step, run in it and the third"


def test_another_stage_is_another_graph(recorders: list[Recorder]) -> None:
    unet, noisy, condition = keyframe_case()
    plain, times = unet.forward, torch.full((2,), 500)
    compile_network(unet, "graphs")
    with torch.no_grad():
        for index in range(MOST_GRAPHS + 1):
            changed = replace(condition, context=condition.context + index, memo=StageMemo())
            for x in noisy[:2]:
                assert torch.equal(unet(x, times, changed), plain(x, times, replace(changed, memo=None)))
    assert len(recorders) == MOST_GRAPHS + 1
    assert isinstance(unet.forward, GraphedForward)
    assert len(unet.forward._graphs) == MOST_GRAPHS
    forget_graphs(unet)
    assert not unet.forward._graphs
    assert not unet.forward._seen


def test_gradients_are_not_recorded(recorders: list[Recorder]) -> None:
    unet, noisy, condition = keyframe_case()
    compile_network(unet.requires_grad_(True), "graphs")
    for x in noisy:
        unet(x, torch.full((2,), 500), condition).mean().backward()
    assert recorders == []


def test_a_model_that_left_the_gpu_just_runs() -> None:
    """Recorded on a device without graphs, every step would give the second one's result."""
    unet, noisy, condition = keyframe_case()
    plain, times = unet.forward, torch.full((2,), 500)
    compile_network(unet, "graphs")
    with torch.no_grad():
        for x in noisy:
            assert torch.equal(unet(x, times, condition), plain(x, times, condition))


def test_steps_run_where_there_is_no_memory_for_a_graph(
    recorders: list[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    unet, noisy, condition = keyframe_case()
    plain, times, tried = unet.forward, torch.full((2,), 500), []

    @contextmanager
    def no_room(*_: Any) -> Any:
        tried.append(True)
        raise torch.OutOfMemoryError
        yield

    monkeypatch.setattr(compiled, "recording", no_room)
    compile_network(unet, "graphs")
    with torch.no_grad():
        for x in noisy:
            assert torch.equal(unet(x, times, condition), plain(x, times, condition))
    assert tried == [True], "once a stage"


@pytest.mark.slow
@pytest.mark.parametrize("case", [keyframe_case, interpolation_case])
def test_torch_compile_is_one_graph_with_a_memo_too(case: Any) -> None:
    unet, noisy, condition = case()
    condition = replace(condition, memo=StageMemo())
    torch._dynamo.reset()
    with torch.no_grad():
        expected = [unet(x, torch.full((2,), 500), condition) for x in noisy]
        compile_network(unet, "torch", backend="eager", fullgraph=True)
        for x, wanted in zip(noisy, expected, strict=True):
            assert (unet(x, torch.full((2,), 500), condition) - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_what_cannot_be_is_said(micro_folder: Path) -> None:
    with pytest.raises(ValueError, match="compile must be none or torch on cpu; got 'graphs', which needs an NVIDIA"):
        FusionFramesPipeline.from_model(open_model(micro_folder), compile="graphs")
    with pytest.raises(ValueError, match="compile must be one of none, torch, graphs; got 'fast'"):
        FusionFramesPipeline.from_model(open_model(micro_folder), compile="fast")
    with pytest.raises(ValueError, match="compile must be none with offload 'layers'"):
        FusionFramesPipeline.from_model(open_model(micro_folder), compile="torch", offload="layers")
    check_compile("graphs", torch.device("cuda", 0), "cpu")


def test_a_pipeline_compiles_its_unets(micro_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **_: seen.append(type(module).__name__))
    assert FusionFramesPipeline.from_model(open_model(micro_folder), compile="torch").models
    assert sorted(seen) == ["InterpolationUNet", "UNet"]


def test_no_step_reads_a_number_from_the_device() -> None:
    """Nothing in a recorded step leaves tensors: a number read from one would be that of the second step for ever."""
    unet, noisy, condition = keyframe_case()
    condition = replace(condition, memo=StageMemo())

    class Reads(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            assert func.overloadpacket is not torch.ops.aten._local_scalar_dense, "a number is read from a tensor"
            return func(*args, **(kwargs or {}))

    with torch.no_grad():
        unet(noisy[0], torch.full((2,), 500), condition)
        with Reads():
            unet(noisy[1], torch.full((2,), 20), condition)
