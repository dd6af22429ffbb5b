"""Temporal blocks by name in a real ComfyUI: files beside a keyframe U-Net, and LoRA that stays."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fusionframes_core.checkpoints.component import build
from fusionframes_core.checkpoints.open_model import load_config
from fusionframes_core.checkpoints.temporal_blocks import save_temporal_weights, temporal_path
from fusionframes_core.models.temporal import initialise_temporal
from tests.helpers.host_graphs import Graph
from tests.helpers.host_server import Server

pytestmark = [pytest.mark.host, pytest.mark.slow]

OTHER = "conv1d_attn3d_blocks"
LORA = ("in_resnet.resnet_blocks.0.projection.weight", "temporal_attention_block.attention.to_query.weight")


@pytest.fixture(scope="module")
def variants(server: Server, root: Path) -> Iterator[str]:
    """The tiny model with fresh temporal parts of another kind beside its own, and a LoRA of both its halves."""
    tiny = root / "fusionframes_core" / "tiny"
    folder = Path(shutil.copytree(tiny, server.base / "models" / "diffusion_models" / "variants"))
    unet = build(replace(load_config(folder).keyframe, temporal=OTHER))
    initialise_temporal(unet)
    save_temporal_weights(unet, temporal_path(folder, OTHER))
    lora = {}
    for key, weight in load_file(tiny / "keyframe.safetensors").items():
        if key.endswith(LORA):
            name = "diffusion_model." + key.removesuffix(".weight")
            lora[f"{name}.lora_A.weight"] = torch.full((1, *weight.shape[1:]), 0.05)
            lora[f"{name}.lora_B.weight"] = torch.full((weight.shape[0], 1, *[1] * (weight.ndim - 2)), 0.05)
    assert any("temporal" in key for key in lora)
    assert not all("temporal" in key for key in lora)
    (server.base / "models" / "loras").mkdir(exist_ok=True)
    save_file(lora, server.base / "models" / "loras" / "variants.safetensors")
    yield folder.name
    shutil.rmtree(folder)


def sampled(graph: Graph, model: Any, text: Any, **choice: str) -> Any:
    inputs = {"width": 64, "height": 64, "num_frames": 3, "seed": 3, "steps": 2, "cfg": 3.0}
    names = {"sampler": "record", "scheduler": "record"}
    return graph.ours("SampleKeyframes", model=model, text=text, **inputs, **names, **choice)[0]


def test_choice_and_lora(server: Server, variants: str) -> None:
    """Fresh blocks are the image U-Net, chosen in the loader or in Sample Keyframes; LoRA of the image U-Net stays."""
    graph = Graph()
    loaded = graph.ours("LoadModel", model_name=variants, precision="fp32", temporal_blocks="auto")
    text = graph.ours("EncodeText", clip=loaded[2], prompt="a large red circle moving right")[0]
    other = graph.ours("LoadModel", model_name=variants, precision="fp32", temporal_blocks=OTHER)[0]
    lora = {"lora_name": "variants.safetensors", "strength_model": 1.0}
    patched = graph.add("LoraLoaderModelOnly", model=loaded[0], **lora)[0]
    links = [
        sampled(graph, loaded[0], text),
        sampled(graph, loaded[0], text, temporal_blocks="none"),
        sampled(graph, loaded[0], text, temporal_blocks=OTHER),
        sampled(graph, other, text),
        sampled(graph, patched, text, temporal_blocks="none"),
    ]
    for index, link in enumerate(links):
        graph.add("SaveLatent", samples=link, filename_prefix=f"blocks/{index}")
    files = sorted(server.saved_files(server.succeed(graph.prompt), "latents"))
    auto, none, chosen, by_loader, with_lora = (load_file(file)["latent_tensor"] for file in files)
    assert torch.equal(chosen, by_loader)
    assert (chosen - none).abs().max() < 1e-3
    assert (auto - none).abs().max() > 1e-2
    assert (with_lora - none).abs().max() > 1e-2
    assert "LoRA changes of temporal parts do not apply to none" in server.log.read_text()
