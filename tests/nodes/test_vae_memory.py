"""ComfyUI is told the number of the plan that decoding and encoding then follow, whatever is free and loaded."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import product
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from fusionframes_core.models.movq.decode_plan import decode_bytes, encode_bytes, least_bytes, plan_encode
from fusionframes_core.models.movq.movq import MoVQ
from fusionframes_core.presets import KANDINSKY_VIDEO_1_0, KANDINSKY_VIDEO_1_1

GB, CUDA, CPU, BF16 = 10**9, torch.device("cuda"), torch.device("cpu"), torch.bfloat16
SHAPE, SIZE = (1, 4, 61, 64, 64), (64, 64)
MODELS = [KANDINSKY_VIDEO_1_0, KANDINSKY_VIDEO_1_1]


@dataclass
class Patcher:
    """A model that ComfyUI holds."""

    model: Any
    loaded: float
    load_device: torch.device = CUDA
    dynamic: bool = False

    def loaded_size(self) -> float:
        return self.loaded

    def is_dynamic(self) -> bool:
        return self.dynamic


@dataclass
class Card:
    """A card whose models ComfyUI sends away until what is asked for is free."""

    free: float
    patchers: list[Patcher]

    def make_room(self, needed: float) -> None:
        for patcher in self.patchers:
            sent = min(patcher.loaded, max(0.0, needed - self.free))
            patcher.loaded -= sent
            self.free += sent


@pytest.fixture
def vae_memory(package: ModuleType) -> Any:
    return importlib.import_module(f"{package.__name__}.host.model.vae_memory")


@pytest.fixture
def insert(package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[[Card], None]:
    """Let ComfyUI and torch see a card."""
    memory = importlib.import_module(f"{package.__name__}.host.comfy.memory")

    def insert_card(card: Card) -> None:
        monkeypatch.setattr("comfy.model_management.get_free_memory", lambda device: card.free)
        monkeypatch.setattr("comfy.model_management.loaded_models", lambda: [None, *card.patchers])
        monkeypatch.setattr(memory, "available_bytes", lambda device: None)

    return insert_card


@cache
def empty_movq(config: Any) -> MoVQ:
    return MoVQ(config.movq, device="meta", dtype=BF16)


def on(device: torch.device, shape: tuple[int, ...] = SHAPE) -> Any:
    """What a plan asks of latents or pixels that lie on a device which is not here."""
    return SimpleNamespace(device=device, shape=shape, dtype=BF16)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@pytest.mark.parametrize("asked", [(None, "blended"), (16, "blended"), (3, "blended"), (None, "official")])
@pytest.mark.parametrize("dynamic", [False, True])
def test_the_estimate_is_the_plan_s_number(
    model: Any, asked: tuple[int | None, str], dynamic: bool, vae_memory: Any, insert: Callable[[Card], None]
) -> None:
    movq = empty_movq(model)
    weights = sum(weight.nbytes for weight in movq.parameters())
    for free, others in product((0.5, 1, 2.5, 5, 8.3, 11, 24, 80), (0, 4, 30)):
        card = Card(free * GB + weights, [Patcher(object(), others * GB, dynamic=dynamic)])
        insert(card)
        told = vae_memory.decode_estimate(movq, CUDA, SHAPE, BF16, *asked)
        assert told <= decode_bytes(movq.config, max(asked[0] or 0, movq.config.decode_chunk), SIZE, BF16)
        if not dynamic:  # what is dynamic gives way when something is allocated
            card.make_room(told + weights)
        card.free -= weights
        card.patchers.append(Patcher(movq, weights))
        if told <= (free + others) * GB:
            assert vae_memory.plan_decoding(movq, on(CUDA), *asked).bytes == told
            continue
        with pytest.raises(ValueError, match="free memory must be at least"):
            vae_memory.plan_decoding(movq, on(CUDA), *asked)


def test_models_that_are_done_make_room(vae_memory: Any, insert: Callable[[Card], None]) -> None:
    """A full card of 12 GB decodes four whole frames at once, as an empty one does."""
    movq = empty_movq(KANDINSKY_VIDEO_1_1)
    insert(Card(1 * GB, [Patcher(object(), 10.5 * GB), Patcher(object(), 9 * GB, CPU)]))
    assert vae_memory.decode_estimate(movq, CUDA, SHAPE, BF16) == decode_bytes(movq.config, 4, SIZE, BF16)
    assert vae_memory.decode_estimate(movq, CUDA, (7, 4, 64, 64), BF16) < 1.1 * GB, "one still"
    insert(Card(0.1 * GB, []))
    assert vae_memory.decode_estimate(movq, CUDA, SHAPE, BF16) == least_bytes(movq.config, 1, SIZE, BF16)


def test_on_a_cpu_no_model_makes_room(vae_memory: Any, insert: Callable[[Card], None]) -> None:
    """Models are sent away to where they are; and nothing is known of DirectML's cards."""
    movq = empty_movq(KANDINSKY_VIDEO_1_1)
    insert(Card(2.5 * GB, [Patcher(object(), 30 * GB, CPU)]))
    plan = vae_memory.plan_decoding(movq, on(CPU), None, "blended")
    assert plan.banded
    assert vae_memory.decode_estimate(movq, CPU, SHAPE, BF16) == plan.bytes
    assert vae_memory.plan_decoding(movq, on(torch.device("meta")), None, "blended").chunk == 8


@pytest.mark.parametrize("free", [0.2, 0.7, 1.5, 3, 80])
def test_the_estimate_of_encoding(free: float, vae_memory: Any, insert: Callable[[Card], None]) -> None:
    movq, pixels = empty_movq(KANDINSKY_VIDEO_1_1), (1, 3, 61, 512, 512)
    weights = sum(weight.nbytes for weight in movq.parameters())
    card = Card(weights, [Patcher(object(), free * GB)])
    insert(card)
    told = vae_memory.encode_estimate(movq, CUDA, pixels, BF16)
    card.make_room(told + weights)
    card.free -= weights
    card.patchers.append(Patcher(movq, weights))
    if told <= free * GB:
        chunk = vae_memory.plan_encoding(movq, on(CPU, pixels), CUDA)
        assert told == encode_bytes(movq.config, chunk, pixels[-2:], BF16)
        assert chunk == plan_encode(movq.config, 61, pixels[-2:], BF16, free * GB)
        return
    assert told == encode_bytes(movq.config, 1, pixels[-2:], BF16)
    with pytest.raises(ValueError, match="to encode 512x512 in bfloat16"):
        vae_memory.plan_encoding(movq, on(CPU, pixels), CUDA)


def test_a_node_s_wish_reaches_the_estimate(vae_memory: Any, insert: Callable[[Card], None]) -> None:
    """For one call: the VAE is another node's too."""
    movq = empty_movq(KANDINSKY_VIDEO_1_1)
    insert(Card(80 * GB, []))
    vae = SimpleNamespace(first_stage_model=movq, device=CUDA, memory_used_decode="its own")
    asked = vae_memory.asking_for(vae, 2, "blended")
    assert asked.memory_used_decode(SHAPE, BF16) == decode_bytes(movq.config, 2, SIZE, BF16)
    assert (asked.first_stage_model, vae.memory_used_decode) == (movq, "its own")
