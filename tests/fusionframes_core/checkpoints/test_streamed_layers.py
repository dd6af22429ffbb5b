"""Blocks that come one by one change no bit, never more than two are there, and the next comes while one works."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fusionframes_core.checkpoints.component import build
from fusionframes_core.checkpoints.device_copies import SLAB, PinnedMemory, PlainCopies, StreamCopies
from fusionframes_core.checkpoints.streamed_layers import StreamedLayers, streamed_blocks
from fusionframes_core.models.unet.unet import KeyframeCondition, UNet
from fusionframes_core.presets import KANDINSKY_VIDEO_1_0
from tests.helpers.unet_cases import randomise, video_config

CPU = torch.device("cpu")


class Watched(PlainCopies):
    """Copies whose order is written down."""

    def __init__(self) -> None:
        super().__init__(CPU)
        self.told: list[str] = []

    def start(self, hosts: list[Tensor]) -> tuple[list[Tensor], Any]:
        self.told.append("start")
        return super().start(hosts)

    def wait(self, ready: Any) -> None:
        self.told.append("wait")

    def finish(self, mark: Any) -> None:
        self.told.append("finish")


def case() -> tuple[UNet, tuple[Any, ...]]:
    unet = randomise(UNet(video_config("conv1d_attn1d_blocks"))).eval().requires_grad_(False)
    seen = KeyframeCondition(torch.randn(1, 5, 24), torch.ones(1, 5, dtype=torch.bool), torch.arange(2.0)[None])
    return unet, (torch.randn(1, 4, 2, 4, 4), torch.tensor([500]), seen)


def _stop(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_streaming_changes_no_bit_and_holds_two_blocks(mode: Any) -> None:
    unet, inputs = case()
    before = {name: value.data_ptr() for name, value in unet.state_dict().items()}
    with mode():
        expected = unet(*inputs)
        streamed = StreamedLayers(unet, CPU, Watched())
        network, held = streamed.open(), []
        for block in streamed.blocks:
            block.register_forward_pre_hook(lambda *_: held.append(len(streamed._coming)))
        for _ in range(3):
            assert torch.equal(network(*inputs), expected)
        streamed.close()
        assert torch.equal(unet(*inputs), expected)
    assert max(held) == 2
    assert {name: value.data_ptr() for name, value in unet.state_dict().items()} == before


def test_the_next_block_comes_while_one_works() -> None:
    """From the second step on, a block has been started before it is called."""
    unet, inputs = case()
    copies = Watched()
    streamed = StreamedLayers(unet, CPU, copies)
    with torch.no_grad():
        streamed.open()(*inputs)
        count = len(streamed.blocks)
        assert copies.told[:3] == ["start", "wait", "start"], "in the first nobody knows what comes"
        copies.told.clear()
        unet(*inputs)
        assert copies.told == ["start", *["wait", "finish", "start"] * count]
        copies.told.clear()
        unet(*inputs)
        assert copies.told == ["wait", "finish", "start"] * count, "the last one's next is the first of the next step"


def test_a_step_that_was_broken_off_is_no_harm() -> None:
    unet, inputs = case()
    streamed = StreamedLayers(unet, CPU)

    with torch.no_grad():
        expected = unet(*inputs)
        streamed.open()(*inputs)
        blocks = list(streamed.blocks)
        for module in (blocks[3], next(part for part in blocks[5].modules() if isinstance(part, nn.Linear))):
            hook = module.register_forward_pre_hook(_stop)
            with pytest.raises(KeyboardInterrupt):
                unet(*inputs)
            hook.remove()
            assert torch.equal(unet(*inputs), expected)
            assert len(streamed._coming) <= 2
        streamed.close()
        assert torch.equal(unet(*inputs), expected)


def test_the_order_of_blocks_is_learned_anew_after_a_first_step_that_was_broken_off() -> None:
    unet, inputs = case()
    copies = Watched()
    streamed = StreamedLayers(unet, CPU, copies)
    hook = list(streamed.blocks)[3].register_forward_pre_hook(_stop)
    with torch.no_grad():
        streamed.open()
        with pytest.raises(KeyboardInterrupt):
            unet(*inputs)
        hook.remove()
        for _ in range(2):
            unet(*inputs)
        copies.told.clear()
        unet(*inputs)
    assert copies.told == ["wait", "finish", "start"] * len(streamed.blocks), "nothing comes that is not the next"


def test_an_opening_that_fails_leaves_the_model_as_it_was() -> None:
    unet, inputs = case()
    copies = Watched()
    streamed = StreamedLayers(unet, CPU, copies)
    room = iter(range(5))

    def pinned(host: Tensor) -> Tensor:
        if next(room, None) is None:
            raise torch.OutOfMemoryError("no memory to pin")
        return host.clone()

    copies.pinned = pinned  # type: ignore[method-assign]
    with torch.no_grad():
        expected = unet(*inputs)
        with pytest.raises(torch.OutOfMemoryError, match="no memory to pin"):
            streamed.open()
        streamed.close()
        assert torch.equal(unet(*inputs), expected)


def test_pinned_memory_is_the_weights_and_little_more() -> None:
    """Of 1.0's keyframe U-Net; torch rounds every piece up to a power of two, which by itself is 1.6 times as much."""
    unet = build(KANDINSKY_VIDEO_1_0.keyframe, device="meta").bfloat16()
    asked: list[int] = []

    def allocate(count: int) -> Tensor:
        asked.append(count)
        return torch.empty(count, dtype=torch.uint8, device="meta")

    memory = PinnedMemory(allocate)
    weights = [memory.place(parameter) for parameter in unet.parameters()]
    assert set(asked) == {SLAB}
    assert sum(asked) <= 1.05 * sum(weight.nbytes for weight in weights)


def test_pieces_of_pinned_memory_have_their_layouts_and_do_not_overlap() -> None:
    memory = PinnedMemory(lambda count: torch.zeros(count, dtype=torch.uint8))
    layout = torch.channels_last
    hosts = [torch.randn(3), torch.randn(4, 3, 3, 3).to(memory_format=layout), torch.randn(5, 7).half(), torch.ones(())]
    placed = [memory.place(host) for host in hosts]
    for host, copy in zip(hosts, placed, strict=True):
        assert torch.equal(copy, host)
        assert (copy.dtype, copy.stride()) == (host.dtype, host.stride())
    assert len({copy.untyped_storage().data_ptr() for copy in placed}) == 1


def test_nearly_all_weights_are_streamed() -> None:
    unet = case()[0]
    streamed = sum(parameter.numel() for block in streamed_blocks(unet) for parameter in block.parameters())
    assert streamed > 0.9 * sum(parameter.numel() for parameter in unet.parameters())
    assert not isinstance(next(streamed_blocks(unet)), nn.ModuleList)


def test_a_gpu_copies_by_a_stream_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work waits for the copy's event and the copy's stream is not the work's; stand-ins, since there is no GPU."""
    told: list[Any] = []

    class Stream:
        def __init__(self, name: str) -> None:
            self.name = name

        def record_event(self) -> Any:
            told.append(("recorded on", self.name))
            return Event(self.name)

        def wait_event(self, event: Event) -> None:
            told.append((self.name, "waits for", event.name))

    class Event:
        def __init__(self, name: str) -> None:
            self.name = name

        def synchronize(self) -> None:
            told.append(("the processor waits for", self.name))

    @contextmanager
    def on(stream: Stream) -> Any:
        told.append(("on", stream.name))
        yield

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("copies"))
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("work"))
    monkeypatch.setattr(Tensor, "is_pinned", lambda tensor: False)
    monkeypatch.setattr(PinnedMemory, "place", lambda _, tensor: told.append("pinned") or tensor)
    copies, host = StreamCopies(CPU), torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last)
    made, ready = copies.start([copies.pinned(host)])
    copies.wait(ready)
    copies.finish(copies.mark())
    assert torch.equal(made[0], host)
    assert made[0].stride() == host.stride(), "in one piece"
    assert told == [
        *("pinned", ("on", "copies"), ("recorded on", "copies"), ("work", "waits for", "copies")),
        *(("recorded on", "work"), ("the processor waits for", "work")),
    ]
