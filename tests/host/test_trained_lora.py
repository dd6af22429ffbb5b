"""A LoRA that `training.train_lora` wrote, in ComfyUI's stock loader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, PartialState

from fusionframes_core.pipeline import FusionFramesPipeline
from tests.helpers.host_graphs import Graph, TinyGraph
from tests.helpers.host_media import read_images
from tests.helpers.host_official import FOLDERS, install, uninstall
from tests.helpers.host_server import Server
from tests.helpers.lora_clips import prepared_clips
from tests.host.test_stock import latents_of
from training.engine.run_settings import TrainSettings
from training.train_lora import LoraStage

pytestmark = [pytest.mark.host, pytest.mark.slow]

PROMPT = "a large red ring moving right"
BUNDLED = "fusionframes_tiny_ring.safetensors"


OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "keyframe": ("keyframe", {}),
    "interpolation": ("interpolation", {}),
    "bf16": ("keyframe", {"base": "bf16", "layers": "temporal", "alpha": 4.0, "dropout": 0.1}),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_a_trained_lora_changes_the_video(server: Server, tmp_path: Path, case: str) -> None:
    """LoraLoaderModelOnly at strength 1 changes the latents, at 0 gives the base bit for bit; no key is left over."""
    settings = TrainSettings(tmp_path, 6, 1, 1e-2, warmup_steps=1, decay_steps=1, ema_decay=0.1, trackers=[])
    part, options = OPTIONS[case]
    LoraStage(settings, part=part, rank=2, shape="ring", count=4, **options).run()
    name = installed(server, tmp_path / "lora.safetensors", case)
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


def installed(server: Server, file: Path, case: str) -> str:
    """The name by which ComfyUI's loader knows a file that was trained."""
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()
    folder = server.base / "models" / "loras"
    folder.mkdir(exist_ok=True)
    name = f"trained_{case}.safetensors"
    (folder / name).write_bytes(file.read_bytes())
    return name


def test_a_lora_of_1_1_changes_still_and_video(server: Server, tmp_path: Path) -> None:
    """The stock loader before Draw First Frame and Image to Video: core's latents, nothing at strength 0."""
    whole = install("1.1", server.base / "models")
    try:
        settings = TrainSettings(
            tmp_path / "run", 4, 1, 1e-2, warmup_steps=1, decay_steps=1, ema_decay=0.1, trackers=[]
        )
        data = prepared_clips(tmp_path, whole, 64)
        LoraStage(settings, str(whole), data=[data], keyframe_step=1, rank=2).run()
        file = tmp_path / "run" / "lora.safetensors"
        name = installed(server, file, "continued")
        graph = Graph()
        loaded = graph.ours("LoadModel", model_name=FOLDERS["1.1"], precision="fp32")
        text = graph.ours("EncodeText", clip=loaded[2], prompt=PROMPT)[0]
        made = []
        for strength in (None, 0.0, 1.0):
            model = loaded[0]
            if strength is not None:
                model = graph.add("LoraLoaderModelOnly", model=model, lora_name=name, strength_model=strength)[0]
            common = {"model": model, "text": text, "vae": loaded[4], "width": 64, "height": 64, "seed": 3, "steps": 4}
            common |= {"sampler": "record", "scheduler": "record"}
            image = graph.ours("DrawFirstFrame", **common, cfg=3.0)[0]
            motion = {"motion": "medium", "motion_score": 1.0, "noise_augmentation": 20}
            weights = {"num_frames": 3, "cfg": 2.0, "cfg_image": 2.0}
            made.append(graph.ours("ImageToVideo", **common, **motion, **weights, image=image)[0])
        base, zero, full = latents_of(server, graph, *made)
        pipeline = FusionFramesPipeline.from_pretrained(whole, loras={file: 1.0})
        how = {"num_frames": 3, "height": 64, "width": 64, "seed": 3, "steps": 4}
        wanted = pipeline.sample_keyframes(pipeline.encode_text([PROMPT]), guidance=2.0, still_guidance=2.0, **how)
    finally:
        uninstall("1.1", server.base / "models")
    print(f"changed by {(full - base).abs().mean():.1e}; core differs by {(full - wanted).abs().max():.1e}")
    assert torch.equal(base, zero)
    assert (full - base).abs().mean() > 1e-4
    assert (full - wanted).abs().max() < 1e-3
    assert "not loaded" not in server.log.read_text()


def test_the_bundled_lora_draws_rings(server: Server) -> None:
    """A few hundred steps on rings: with the LoRA the middle of the shape is empty, without it and at 0 it is full."""
    graph = TinyGraph(PROMPT)
    for strength in (None, 0.0, 1.0):
        model = graph.keyframes
        if strength is not None:
            model = graph.add("LoraLoaderModelOnly", model=model, lora_name=BUNDLED, strength_model=strength)[0]
        images = graph.decode(graph.sample_keyframes(model=model, num_frames=16, steps=20))[1]
        graph.add("SaveImage", images=images, filename_prefix=f"rings/{strength}")
    files = sorted(file for file in server.saved_files(server.succeed(graph.prompt)) if file.suffix == ".png")
    base, zero, full = (
        read_images([file for file in files if file.name.startswith(str(strength))]) for strength in (None, 0.0, 1.0)
    )
    assert np.array_equal(base, zero)
    found = [np.mean([middle(frame) for frame in frames]) for frames in (base, full)]
    print(f"red in the middle of the shape: {found[0]:.2f}, with the LoRA {found[1]:.2f}")
    assert found[0] > 0.8
    assert found[1] < 0.5


def middle(frame: np.ndarray) -> float:
    """How full of red the 5×5 pixels around the centre of the red shape of a BGR frame are, compared with all of it."""
    blue, _, red = frame.astype(float).transpose(2, 0, 1)
    amount = np.clip(red - blue, 0, None)
    shape = amount > 0.5 * amount.max()
    row, column = (round(float(places.mean())) for places in np.nonzero(shape))
    return float(shape[row - 2 : row + 3, column - 2 : column + 3].mean())
