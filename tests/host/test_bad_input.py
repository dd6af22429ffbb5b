"""Wrong models, latents, sizes and schedules: a sentence in the node, before the first step."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.helpers.host_graphs import Graph, TinyGraph
from tests.helpers.host_server import Listener, Rejected, Server, error_of

pytestmark = [pytest.mark.host, pytest.mark.slow]


def keyframes_from_interpolation(graph: TinyGraph) -> Any:
    return graph.sample_keyframes(model=graph.interpolation)


def interpolation_from_keyframes(graph: TinyGraph) -> Any:
    return graph.interpolate(graph.empty(), model=graph.keyframes)


def ksampler_of_interpolation(graph: TinyGraph) -> Any:
    return graph.ksampler(graph.interpolation)


def one_keyframe(graph: TinyGraph) -> Any:
    return graph.interpolate(graph.empty(num_frames=1))


def image_latents(graph: TinyGraph) -> Any:
    return graph.interpolate(graph.add("EmptyLatentImage", width=64, height=64, batch_size=1)[0])


def other_channels(graph: TinyGraph) -> Any:
    empty = graph.add("EmptyHunyuanLatentVideo", width=64, height=64, length=5, batch_size=1)[0]
    return graph.interpolate(empty)


def schedule_of_other_length(graph: TinyGraph) -> Any:
    schedule = {"prompts": "0: a red circle\n5: a blue star", "num_frames": 8, "blend": True}
    return graph.sample_keyframes(text=graph.ours("SchedulePrompts", clip=graph.clip, **schedule)[0])


def loop_in_windows(graph: TinyGraph) -> Any:
    long = graph.ours("ExtendVideo", model=graph.keyframes, window=16, overlap=8)[0]
    return graph.sample_keyframes(model=graph.ours("CloseLoop", model=long)[0])


def odd_images(graph: TinyGraph) -> Any:
    images = graph.add("EmptyImage", width=60, height=50, batch_size=2, color=0)[0]
    return graph.ours("EncodeVideo", vae=graph.vae, width=0, height=0, every=1, fps=0.0, images=images)[0]


def nothing_to_encode(graph: TinyGraph) -> Any:
    return graph.ours("EncodeVideo", vae=graph.vae, width=64, height=64, every=1, fps=0.0)[0]


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (keyframes_from_interpolation, "its first output) or Load U-Net; got a FusionFrames interpolation model"),
        (interpolation_from_keyframes, "its second output) or Load U-Net; got a FusionFrames keyframe model"),
        (ksampler_of_interpolation, "put FusionFrames Prepare Interpolation before the sampler"),
        (one_keyframe, "latents must have at least 2 frames to interpolate between; got 1"),
        (image_latents, "got [1, 4, 8, 8]"),
        (other_channels, "got [1, 16, 2, 8, 8]"),
        (schedule_of_other_length, "num_keyframes must be the Prompt Schedule's, which is 8; got 5"),
        (loop_in_windows, "a model that samples in windows cannot loop too"),
        (odd_images, "these are 60×50"),
        (nothing_to_encode, "connect either video or images"),
    ],
)
def test_what_does_not_fit_is_named(server: Server, build: Callable[[TinyGraph], Any], sentence: str) -> None:
    """The run stops with one sentence that says what is wrong and what fits."""
    graph = TinyGraph()
    graph.save_latents(build(graph))
    entry = server.finish(server.queue(graph.prompt))
    assert entry["status"]["status_str"] == "error"
    assert sentence in error_of(entry)
    assert "\n" not in error_of(entry).strip()


@pytest.mark.parametrize(
    ("prompts", "sentence"),
    [
        ("0: a circle\n16: a star", "prompts names keyframe 16, but there are 16: 0 to 15"),
        ("a circle", "prompts must be lines like '0: a red circle'; got 'a circle'"),
        ("3: a circle\n3: a star", "prompts names keyframe 3 twice"),
        (" ", "prompts must have at least one line"),
    ],
)
def test_bad_schedule_is_refused(server: Server, prompts: str, sentence: str) -> None:
    """A schedule that makes no sense is not queued."""
    graph = TinyGraph()
    text = graph.ours("SchedulePrompts", clip=graph.clip, prompts=prompts, num_frames=16, blend=True)[0]
    graph.save_latents(graph.sample_keyframes(text=text))
    with pytest.raises(Rejected) as refusal:
        server.queue(graph.prompt)
    assert any(sentence in line for line in refusal.value.sentences), refusal.value.sentences


def test_another_vae_is_named(server: Server) -> None:
    """Decode and Encode Video take our VAE only; here one of ComfyUI's pixel-space VAEs."""
    graph = TinyGraph()
    other = graph.add("VAELoader", vae_name="pixel_space")[0]
    graph.save_video(graph.decode(graph.empty(), vae=other)[0])
    entry = server.finish(server.queue(graph.prompt))
    assert "vae must be the MoVQ of FusionFrames Load Model (its fourth output)" in error_of(entry)


# A Wan U-Net and Stable Diffusion's small autoencoder, as small as they go, under ComfyUI's own names.
FOREIGN = """
import sys
folder = sys.argv.pop(1)
sys.argv.append("--cpu")
import comfy.options
comfy.options.enable_args_parsing()
import comfy.ops, torch
from comfy.ldm.wan.model import WanModel
from comfy.taesd.taesd import TAESD
from safetensors.torch import save_file
sizes = dict(dim=128, ffn_dim=64, num_heads=1, num_layers=1, in_dim=16, out_dim=16)
wan = WanModel(**sizes, dtype=torch.float16, device="cpu", operations=comfy.ops.disable_weight_init)
for file, model in (("diffusion_models/wan", wan), ("vae/sd", TAESD())):
    weights = {key: torch.zeros_like(value, dtype=torch.float16) for key, value in model.state_dict().items()}
    save_file(weights, f"{folder}/{file}.safetensors")
"""


@pytest.fixture(scope="module")
def foreign(server: Server, comfyui: Any) -> None:
    """Models of other kinds in ComfyUI's folders."""
    for kind in ("diffusion_models", "vae"):
        (server.base / "models" / kind).mkdir(exist_ok=True)
    command = [str(comfyui.python), "-c", FOREIGN, str(server.base / "models")]
    done = subprocess.run(command, cwd=comfyui.path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def fails_before_sampling(server: Server, listener: Listener, prompt: dict[str, Any]) -> str:
    """The sentence of a run that ends in an error without one step of a sampler."""
    prompt_id = server.queue(prompt)
    entry = server.finish(prompt_id)
    assert entry["status"]["status_str"] == "error"
    assert listener.find("progress", prompt_id=prompt_id) == []
    return error_of(entry)


@pytest.mark.usefixtures("foreign")
def test_models_of_other_kinds_are_named(server: Server, listener: Listener) -> None:
    """Wan in Sample Keyframes and Interpolate, Stable Diffusion's VAE in Decode: before anything is sampled."""
    for build in (keyframes_of_wan, interpolation_of_wan):
        graph = TinyGraph()
        graph.save_latents(build(graph))
        sentence = fails_before_sampling(server, listener, graph.prompt)
        assert "of FusionFrames Load Model" in sentence
        assert "WAN" in sentence
    graph = TinyGraph()
    vae = graph.add("VAELoader", vae_name="sd.safetensors")[0]
    graph.save_video(graph.decode(graph.sample_keyframes(), vae=vae)[0])
    sentence = fails_before_sampling(server, listener, graph.prompt)
    assert "vae must be the MoVQ of FusionFrames Load Model (its fourth output) or Load VAE" in sentence
    assert "TAESD" in sentence


def keyframes_of_wan(graph: TinyGraph) -> Any:
    return graph.sample_keyframes(model=wan(graph))


def interpolation_of_wan(graph: TinyGraph) -> Any:
    return graph.interpolate(graph.sample_keyframes(seed=91), model=wan(graph))


def wan(graph: TinyGraph) -> Any:
    return graph.add("UNETLoader", unet_name="wan.safetensors", weight_dtype="default")[0]


@pytest.mark.usefixtures("foreign")
def test_files_of_other_kinds_are_named(server: Server) -> None:
    """Chosen in our own loaders."""
    for node, inputs, title in (
        ("LoadUNet", {"unet_name": "wan.safetensors"}, "is a Wan model, but a U-Net or MoVQ of a FusionFrames model"),
        ("LoadMoVQ", {"movq_name": "sd.safetensors"}, "but a U-Net or MoVQ of a FusionFrames model was expected"),
    ):
        graph = Graph()
        loaded = graph.ours(node, **inputs, precision="auto")
        graph.add("PreviewAny", source=loaded[0])
        assert title in error_of(server.finish(server.queue(graph.prompt)))


def test_workflow_from_before_a_rename(server: Server) -> None:
    """A node under an old id works; an input that has another name now is asked for by its new one."""
    graph = TinyGraph()
    model = graph.ours("Loop", model=graph.keyframes)[0]
    graph.save_latents(graph.sample_keyframes(model=model, num_frames=3, steps=2))
    for key, node in graph.prompt.items():
        node["_meta"] = {"title": key}
    server.succeed(graph.prompt)
    old = TinyGraph()
    decoded = old.ours("Decode", model=old.loaded[0], latents=old.empty(), temporal=True, fps=0.0, chunk=16, overlap=4)
    old.save_video(decoded[0])
    with pytest.raises(Rejected) as refusal:
        server.queue(old.prompt)
    assert "Required input is missing: vae" in refusal.value.sentences


@pytest.mark.parametrize("name", ["gone", "../secret", ""])
def test_missing_conditioning_is_refused(server: Server, name: str) -> None:
    """A file that is not there, or outside its folder."""
    graph = TinyGraph()
    graph.save_latents(graph.sample_keyframes(text=graph.ours("LoadConditioning", name=name)[0]))
    with pytest.raises(Rejected) as refusal:
        server.queue(graph.prompt)
    assert any("name" in line for line in refusal.value.sentences)
