"""What stock nodes save loads again, and prompts have ComfyUI's weights."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from tests.helpers.host_graphs import TinyGraph
from tests.helpers.host_media import read_images
from tests.helpers.host_server import Rejected, Server, error_of
from tests.host.test_stock import latents_of

pytestmark = [pytest.mark.host, pytest.mark.slow]


@pytest.fixture(scope="module")
def saved(server: Server) -> None:
    """ModelSave of a keyframe model with a LoRA and of the interpolation model, and VAESave, put where models are."""
    graph = TinyGraph()
    lora = {"lora_name": "fusionframes_tiny_ring.safetensors", "strength_model": 1.0}
    ring = graph.add("LoraLoaderModelOnly", model=graph.keyframes, **lora)[0]
    graph.add("ModelSave", model=ring, filename_prefix="saved/ring")
    graph.add("ModelSave", model=graph.interpolation, filename_prefix="saved/between")
    graph.add("VAESave", vae=graph.vae, filename_prefix="saved/movq")
    server.succeed(graph.prompt)
    for file in (server.base / "output" / "saved").iterdir():
        folder = server.base / "models" / ("vae" if file.name.startswith("movq") else "diffusion_models")
        folder.mkdir(exist_ok=True)
        shutil.copy(file, folder / file.name)


@pytest.mark.usefixtures("saved")
def test_saved_unets_load_again(server: Server) -> None:
    """Without a config.json beside them they give the latents of what was saved, the LoRA's included."""
    graph = TinyGraph()
    lora = {"lora_name": "fusionframes_tiny_ring.safetensors", "strength_model": 1.0}
    ring = graph.add("LoraLoaderModelOnly", model=graph.keyframes, **lora)[0]
    again, between = (
        graph.ours("LoadUNet", unet_name=f"{name}_00001_.safetensors", precision="auto")[0]
        for name in ("ring", "between")
    )
    keyframes = graph.sample_keyframes(model=ring)
    links = [keyframes, graph.sample_keyframes(model=again), graph.interpolate(keyframes)]
    found = latents_of(server, graph, *links, graph.interpolate(keyframes, model=between))
    assert (found[1] - found[0]).abs().max() < 1e-4
    assert (found[3] - found[2]).abs().max() < 1e-4


@pytest.mark.usefixtures("saved")
def test_a_saved_vae_loads_again(server: Server) -> None:
    """It decodes as the one that was saved."""
    graph = TinyGraph()
    again = graph.ours("LoadMoVQ", movq_name="movq_00001_.safetensors", precision="auto")[0]
    latents = graph.sample_keyframes()
    for index, vae in enumerate((graph.vae, again)):
        images = graph.decode(latents, vae=vae)[1]
        graph.add("SaveImage", images=images, filename_prefix=f"saved_vae/{index}")
    files = server.saved_files(server.succeed(graph.prompt))
    frames = read_images([file for file in files if file.suffix == ".png"]).reshape(2, 5, 64, 64, 3).astype(int)
    assert np.abs(frames[1] - frames[0]).max() <= 1
    assert frames.std() > 5


@pytest.mark.usefixtures("saved")
def test_stock_loaders_load_our_files(server: Server) -> None:
    """Load Diffusion Model and Load VAE of ComfyUI, as ours do, and the log names the node that is meant."""
    graph = TinyGraph()
    files = {"unet_name": "ring_00001_.safetensors"}, {"vae_name": "movq_00001_.safetensors"}
    stock = graph.add("UNETLoader", **files[0], weight_dtype="default")[0]
    ours = graph.ours("LoadUNet", **files[0], precision="auto")[0]
    vae = graph.add("VAELoader", **files[1])[0]
    keyframes = graph.sample_keyframes(model=ours)
    images = graph.ours("Decode", vae=vae, latents=keyframes, temporal=True, fps=0.0, chunk=16, overlap=4)[1]
    again = graph.add("VAEEncode", pixels=images, vae=vae)[0]
    found = latents_of(server, graph, keyframes, graph.sample_keyframes(model=stock), again)
    assert torch.equal(found[0], found[1])
    assert (found[2] - found[0]).abs().mean() < 0.2
    log = server.log.read_text()
    assert "ring_00001_.safetensors is loaded by FusionFrames Load U-Net; use that node for it" in log
    assert "movq_00001_.safetensors is loaded by FusionFrames Load VAE; use that node for it" in log


def test_other_files_are_left_to_stock_loaders(server: Server) -> None:
    """A file of another kind has ComfyUI's own error, and a name that is not there is refused as ever."""
    from safetensors.torch import save_file

    folder = server.base / "models" / "diffusion_models"
    folder.mkdir(exist_ok=True)
    save_file({"a": torch.zeros(2)}, folder / "other.safetensors")
    for name, said in (("other.safetensors", "Could not detect model type"), ("none.safetensors", "Value not in list")):
        graph = TinyGraph()
        model = graph.add("UNETLoader", unet_name=name, weight_dtype="default")[0]
        graph.save_latents(graph.ksampler(model))
        try:
            sentence = error_of(server.finish(server.queue(graph.prompt)))
        except Rejected as refusal:
            sentence = " ".join(refusal.sentences)
        assert said in sentence


def test_prompt_weights(server: Server) -> None:
    """(word:1.5) changes the video and (word:1.0) does not; escaped brackets are text; embeddings are said to lack."""
    graph = TinyGraph("a large red circle moving right")
    texts = ["a large (red:1.0) circle moving right", "a large (red:1.5) circle moving right"]
    texts += ["embedding:style a large red circle moving right", r"a large \(red\) circle moving right"]
    conditionings = [graph.add("CLIPTextEncode", clip=graph.clip, text=text)[0] for text in texts]
    links = [graph.ksampler(), *(graph.ksampler(positive=positive) for positive in conditionings)]
    plain, same, stronger, without, brackets = latents_of(server, graph, *links)
    assert torch.equal(same, plain)
    assert torch.equal(without, plain)
    assert (stronger - plain).abs().mean() > 1e-3
    assert (brackets - plain).abs().mean() > 1e-3
    log = server.log.read_text()
    assert "embedding:style left out: there are no embeddings for the text encoder of FusionFrames" in log
