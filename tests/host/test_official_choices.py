"""Where the official code does otherwise, its way by name: the same numbers in ComfyUI as in core."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fusionframes_core.media.frames import to_uint8
from fusionframes_core.pipeline import FusionFramesPipeline
from tests.helpers.host_graphs import Graph
from tests.helpers.host_media import read_images
from tests.helpers.host_official import FOLDERS, install, uninstall
from tests.helpers.host_server import Server

pytestmark = [pytest.mark.host, pytest.mark.slow]

PROMPT = "a large red circle moving right"
NEGATIVES = ("square", "a small blue star, spinning, on a grey background, a small blue star")
SMALL = {
    "width": 64,
    "height": 64,
    "num_frames": 3,
    "seed": 3,
    "steps": 7,
    "sampler": "default",
    "scheduler": "default",
}
CORE: dict[str, Any] = {"size": (64, 64), "num_frames": 3, "seed": 3, "steps": 7, "guidance": 2.0, "passes": 0}


@pytest.fixture(scope="module")
def whole(server: Server) -> Iterator[Path]:
    """1.0 in ComfyUI's folders; a folder that core loads."""
    models = server.base / "models"
    yield install("1.0", models)
    uninstall("1.0", models)


@pytest.mark.parametrize("negative", NEGATIVES)
def test_the_official_negative_prompt_is_cores(server: Server, whole: Path, negative: str) -> None:
    """Shorter than the prompt, and longer; by its own words it makes another video."""
    graph = Graph()
    loaded = graph.ours("LoadModel", model_name=FOLDERS["1.0"], precision="fp32")
    text = graph.ours("EncodeText", clip=loaded[2], prompt=PROMPT)[0]
    for index, more in enumerate(({"negative": "official", "negative_of": text}, {})):
        avoided = graph.ours("EncodeText", clip=loaded[2], prompt=negative, **more)[0]
        inputs = {"model": loaded[0], "text": text, "negative": avoided, "cfg": 3.0}
        latents = graph.ours("SampleKeyframes", **inputs, **SMALL)[0]
        graph.add("SaveLatent", samples=latents, filename_prefix=f"choices/{index}")
    files = sorted(server.saved_files(server.succeed(graph.prompt), "latents"))
    official, own = (load_file(file)["latent_tensor"] for file in files)
    pipeline = FusionFramesPipeline.from_pretrained(whole)
    for found, name in ((official, "official"), (own, "own")):
        wanted = pipeline(PROMPT, negative_prompt=negative, negative=name, **CORE).latents
        gap = (found - wanted).abs().max().item()
        print(f"negative {name}: {gap:.1e}")
        assert gap < 1e-3
    assert not torch.allclose(official, own, atol=1e-4)


def test_speeds_and_official_windows_are_cores(server: Server, whole: Path) -> None:
    """Interpolate's low keeps the keyframes and high makes 16 times as many; Decode's official groups."""
    graph = Graph()
    loaded = graph.ours("LoadModel", model_name=FOLDERS["1.0"], precision="fp32")
    text = graph.ours("EncodeText", clip=loaded[2], prompt=PROMPT)[0]
    keyframes = graph.ours("SampleKeyframes", model=loaded[0], text=text, cfg=3.0, **SMALL)[0]
    names = {"sampler": "default", "scheduler": "default", "skip_frames": 3, "perturbation": 0, "loop": False}
    for fps in ("low", "high"):
        how = {"passes": 1, "seed": 3, "steps": 7, "cfg": 0.0, **names, "fps": fps}
        latents = graph.ours("Interpolate", model=loaded[1], latents=keyframes, **how)[0]
        cut = {"temporal": True, "fps": 0.0, "chunk": 0, "overlap": -1, "windows": "official"}
        images = graph.ours("Decode", vae=loaded[3], latents=latents, **cut)[1]
        graph.add("SaveImage", images=images, filename_prefix=f"choices/{fps}")
    files = server.saved_files(server.succeed(graph.prompt))
    pipeline = FusionFramesPipeline.from_pretrained(whole)
    for fps in ("low", "high"):
        found = read_images([file for file in files if file.name.startswith(fps)])
        how = {**CORE, "interpolation_steps": 7, "decode_windows": "official", "fps": fps}
        how.pop("passes")
        wanted = to_uint8(pipeline(PROMPT, **how).frames[0])[..., ::-1]
        assert found.shape == wanted.shape
        assert np.abs(found.astype(int) - wanted.astype(int)).max() <= 2
