"""A LoRA that `training.train_lora` wrote, in ComfyUI's stock loader."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState

from tests.host.graphs import TinyGraph
from tests.host.harness import Server
from tests.host.test_stock import latents_of
from training.engine import TrainSettings
from training.train_lora import train

pytestmark = [pytest.mark.host, pytest.mark.slow]

PROMPT = "a large red ring moving right"


@pytest.mark.parametrize("part", ["keyframe", "interpolation"])
def test_a_trained_lora_changes_the_video(server: Server, tmp_path: Path, part: str) -> None:
    """LoraLoaderModelOnly at strength 1 changes the latents, at 0 gives the base bit for bit; no key is left over."""
    settings = TrainSettings(tmp_path, 6, 1, 1e-2, warmup_steps=1, decay_steps=1, ema_decay=0.1, trackers=[])
    train(settings, part=part, rank=2, shape="ring", count=4)
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()
    folder = server.base / "models" / "loras"
    folder.mkdir(exist_ok=True)
    name = f"trained_{part}.safetensors"
    (folder / name).write_bytes((tmp_path / "lora.safetensors").read_bytes())
    graph = TinyGraph(PROMPT)
    base = graph.keyframes if part == "keyframe" else graph.interpolation
    models = [base]
    for strength in (0.0, 1.0):
        models.append(graph.add("LoraLoaderModelOnly", model=base, lora_name=name, strength_model=strength)[0])
    if part == "keyframe":
        found = latents_of(server, graph, *(graph.ksampler(model, steps=2) for model in models))
    else:
        keyframes = graph.ksampler(steps=2)
        found = latents_of(server, graph, *(graph.interpolate(keyframes, model=model) for model in models))
    assert torch.equal(found[0], found[1])
    assert (found[2] - found[0]).abs().mean() > 1e-4
    assert "not loaded" not in server.log.read_text()
