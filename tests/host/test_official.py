"""KandinskyVideo 1.0 and 1.1 from official files, in a real ComfyUI: every loader, and core's latents for a seed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fusionframes_core.pipeline import FusionFramesPipeline
from tests.helpers.host_graphs import Graph
from tests.helpers.host_media import read_video
from tests.helpers.host_official import FOLDERS, install, uninstall
from tests.helpers.host_server import Rejected, Server, error_of

pytestmark = [pytest.mark.host, pytest.mark.slow]

PROMPT = "a large red circle moving right"
RECORD = {"sampler": "record", "scheduler": "record"}
SIZE = {"width": 64, "height": 64}
FIRST = {"motion": "high", "motion_score": 1.0, "noise_augmentation": 30}
KEYFRAMES = {"seed": 3, "steps": 6}
FRAMES = {"passes": 1, "seed": 3, "steps": 8, "cfg": 1.25, "skip_frames": 3, "loop": False}
UNETS = {"1.0": ("kandinsky_video", "kandinsky_video_interpolation"), "1.1": ("t2v", "interpolation")}
TEXTS = {"1.0": "kandinsky_video", "1.1": "t5_projections"}
MOVQS = {"1.0": ("movq", "movq"), "1.1": ("video_movq", "movq")}


class Loaded(NamedTuple):
    """Links to a model's parts."""

    keyframes: Any
    interpolation: Any
    clip: Any
    vae: Any
    image_vae: Any


@pytest.fixture(scope="module")
def wholes(server: Server) -> Iterator[dict[str, Path]]:
    """Both versions in ComfyUI's folders; for each a folder that core loads."""
    models = server.base / "models"
    yield {version: install(version, models) for version in FOLDERS}
    for version in FOLDERS:
        uninstall(version, models)


@pytest.fixture(scope="module")
def photo(server: Server) -> torch.Tensor:
    """A picture wider than the video, in ComfyUI's input folder; (1, 3, H, W) in [−1, 1]."""
    pixels = (np.random.default_rng(1).random((64, 80, 3)) * 255).astype(np.uint8)
    cv2.imwrite(str(server.base / "input" / "photo.png"), pixels[..., ::-1])
    return torch.tensor(pixels).permute(2, 0, 1)[None] / 127.5 - 1


def whole(graph: Graph, version: str, precision: str = "fp32") -> Loaded:
    """All parts by Load Model."""
    node = graph.ours("LoadModel", model_name=FOLDERS[version], precision=precision)
    return Loaded(*(node[index] for index in range(5)))


def single(graph: Graph, version: str) -> Loaded:
    """Each part by its own loader."""

    def path(stem: str) -> str:
        return f"{FOLDERS[version]}/{stem}.pt"

    unets = [graph.ours("LoadUNet", unet_name=path(stem), precision="fp32")[0] for stem in UNETS[version]]
    files = {"text_encoder": "flan-ul2", "projection": path(TEXTS[version])}
    clip = graph.ours("LoadTextEncoder", **files, precision="fp32")[0]
    vaes = [graph.ours("LoadMoVQ", movq_name=path(stem), precision="fp32")[0] for stem in MOVQS[version]]
    return Loaded(*unets, clip, *vaes)


def keyframes_of(graph: Graph, loaded: Loaded, version: str, text: Any) -> Any:
    """Keyframes from a prompt (1.0), or from a prompt and an image (1.1)."""
    inputs = {"model": loaded.keyframes, "text": text, "num_frames": 5, **SIZE, **KEYFRAMES, **RECORD}
    if version == "1.0":
        return graph.ours("SampleKeyframes", **inputs, cfg=3.0)[0]
    image = graph.add("LoadImage", image="photo.png")[0]
    weights = {"cfg": 3.0, "cfg_image": 2.5}
    return graph.ours("ImageToVideo", **inputs, **FIRST, **weights, vae=loaded.image_vae, image=image)[0]


def frames_of(graph: Graph, loaded: Loaded, version: str, latents: Any, text: Any) -> Any:
    """One pass of interpolation; 1.1 reads the prompt and knows perturbation."""
    extra = {"perturbation": 0} if version == "1.0" else {"perturbation": 40, "text": text}
    return graph.ours("Interpolate", model=loaded.interpolation, latents=latents, **FRAMES, **RECORD, **extra)[0]


def latents_of(server: Server, graph: Graph, *links: Any) -> list[torch.Tensor]:
    """Run a graph; the latents at its links."""
    for index, link in enumerate(links):
        graph.add("SaveLatent", samples=link, filename_prefix=f"official/{index}")
    files = sorted(server.saved_files(server.succeed(graph.prompt), "latents"))
    return [load_file(file)["latent_tensor"] for file in files]


def gap(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return (found - wanted).abs().max().item()


@pytest.mark.parametrize("version", FOLDERS)
def test_record_sampling_is_cores(server: Server, wholes: dict[str, Path], photo: torch.Tensor, version: str) -> None:
    """Keyframes and interpolated frames of the same seed within 1e-3, by Load Model and part by part."""
    found = {}
    for load in (whole, single):
        graph = Graph()
        loaded = load(graph, version)
        text = graph.ours("EncodeText", clip=loaded.clip, prompt=PROMPT)[0]
        keyframes = keyframes_of(graph, loaded, version, text)
        frames = frames_of(graph, loaded, version, keyframes, text)
        images = graph.ours("Decode", vae=loaded.vae, latents=frames, temporal=True, fps=0.0, chunk=16, overlap=4)[1]
        graph.add("SaveImage", images=images, filename_prefix=f"official/{version}")
        found[load] = latents_of(server, graph, keyframes, frames)
    pipeline = FusionFramesPipeline.from_pretrained(wholes[version])
    how: dict[str, Any] = {"num_frames": 5, "height": 64, "width": 64, **KEYFRAMES}
    if version == "1.0":
        wanted = pipeline.sample_keyframes(pipeline.encode_text([PROMPT]), guidance=2.0, **how)
        context, perturbation = None, 0
    else:
        weights = {"motion": "high", "noise_augmentation": 30, "guidance": 3.0, "image_guidance": 2.5}
        wanted = pipeline.sample_keyframes(pipeline.encode_text([PROMPT]), image=photo, **weights, **how)
        context, perturbation = pipeline.encode_text([PROMPT], "interpolation"), 40
    keyframes, frames = found[whole]
    between = pipeline.interpolate(keyframes, context, seed=3, steps=8, guidance=0.25, perturbation=perturbation)
    gaps = gap(keyframes, wanted), gap(frames, between)
    print(f"{version}: keyframes differ by {gaps[0]:.1e}, interpolated frames by {gaps[1]:.1e}")
    assert max(gaps) < 1e-3
    assert all(torch.equal(one, other) for one, other in zip(found[whole], found[single], strict=True))


def test_text_to_video_of_1_1_draws_its_first_frame(server: Server, wholes: dict[str, Path]) -> None:
    """Draw First Frame and Image to Video are core's generation without an image."""
    graph = Graph()
    loaded = whole(graph, "1.1")
    text = graph.ours("EncodeText", clip=loaded.clip, prompt=PROMPT)[0]
    common = {"model": loaded.keyframes, "text": text, "vae": loaded.image_vae, **SIZE, "seed": 3, "steps": 4, **RECORD}
    image = graph.ours("DrawFirstFrame", **common, cfg=3.0)[0]
    motion = {"motion": "medium", "motion_score": 1.0, "noise_augmentation": 20}
    made = graph.ours("ImageToVideo", **common, **motion, image=image, num_frames=3, cfg=2.0, cfg_image=2.0)[0]
    (found,) = latents_of(server, graph, made)
    pipeline = FusionFramesPipeline.from_pretrained(wholes["1.1"])
    how = {"num_frames": 3, "height": 64, "width": 64, "seed": 3, "steps": 4}
    wanted = pipeline.sample_keyframes(pipeline.encode_text([PROMPT]), guidance=2.0, still_guidance=2.0, **how)
    print(f"drawn first frame: keyframes differ by {gap(found, wanted):.1e}")
    assert gap(found, wanted) < 1e-3


def test_dual_guider_is_image_to_video(server: Server, wholes: dict[str, Path], photo: torch.Tensor) -> None:
    """Prepare First Frame with the stock DualCFGGuider gives Image to Video's latents; weights and motion matter."""
    graph = Graph()
    loaded = whole(graph, "1.1")
    text = graph.ours("EncodeText", clip=loaded.clip, prompt=PROMPT)[0]
    ours = keyframes_of(graph, loaded, "1.1", text)
    common = {"model": loaded.keyframes, "text": text, "vae": loaded.image_vae, **SIZE, "num_frames": 5, "seed": 3}
    image = graph.add("LoadImage", image="photo.png")[0]
    sampled = []
    for motion, weight in (("high", 2.5), ("low", 2.5), ("high", 1.0)):
        prepared = graph.ours("PrepareFirstFrame", **common, image=image, **{**FIRST, "motion": motion})
        plan = graph.ours("PlanSampling", model=loaded.keyframes, positive=prepared[0], seed=3, steps=6, cfg=1.0)
        conditions = {"cond1": prepared[0], "cond2": prepared[1], "negative": prepared[2]}
        weights = {"cfg_conds": 3.0, "cfg_cond2_negative": weight, "style": "regular"}
        guider = graph.add("DualCFGGuider", model=loaded.keyframes, **conditions, **weights)[0]
        parts = {"noise": plan[0], "guider": guider, "sampler": plan[2], "sigmas": plan[3]}
        sampled.append(graph.add("SamplerCustomAdvanced", **parts, latent_image=prepared[3])[0])
    found = latents_of(server, graph, ours, *sampled)
    assert gap(found[1], found[0]) < 1e-3
    assert gap(found[2], found[1]) > 1e-3
    assert gap(found[3], found[1]) > 1e-3


def test_temporal_blocks_none_is_the_image_model(server: Server, wholes: dict[str, Path]) -> None:
    """By the loader and by Sample Keyframes the same; a name without a file is one sentence with what there is."""
    graph = Graph()
    text_of = whole(graph, "1.0")
    text = graph.ours("EncodeText", clip=text_of.clip, prompt=PROMPT)[0]
    inputs = {"text": text, "num_frames": 3, **SIZE, **KEYFRAMES, **RECORD, "cfg": 3.0}
    name = f"{FOLDERS['1.0']}/kandinsky_video.pt"
    none = graph.ours("LoadUNet", unet_name=name, precision="fp32", temporal_blocks="none")[0]
    sampled = [
        graph.ours("SampleKeyframes", model=text_of.keyframes, **inputs)[0],
        graph.ours("SampleKeyframes", model=none, **inputs)[0],
        graph.ours("SampleKeyframes", model=text_of.keyframes, **inputs, temporal_blocks="none")[0],
    ]
    plain, loaded, chosen = latents_of(server, graph, *sampled)
    assert torch.equal(loaded, chosen)
    assert gap(plain, chosen) > 1e-2
    graph = Graph()
    graph.ours("LoadUNet", unet_name=name, precision="fp32", temporal_blocks="conv3d_attn1d_blocks")
    graph.add("PreviewAny", source=["1", 0])
    sentence = error_of(server.finish(server.queue(graph.prompt)))
    assert "needs temporal_conv3d_attn1d_blocks.safetensors in" in sentence
    assert "there are auto, conv1d_attn1d_blocks, none" in sentence


def test_what_does_not_belong_is_named(server: Server, wholes: dict[str, Path], photo: torch.Tensor) -> None:
    """A MoVQ where a U-Net goes, a 1.1 model without its image, 1.0 with one, noise that 1.0 does not know."""
    movq = Graph()
    movq.ours("LoadUNet", unet_name=f"{FOLDERS['1.0']}/movq.pt", precision="fp32")
    movq.add("PreviewAny", source=["1", 0])
    assert "holds a MoVQ" in error_of(server.finish(server.queue(movq.prompt)))
    for version, sentence in (("1.1", "use FusionFrames Image to Video"), ("1.0", "use FusionFrames Sample Keyframes")):
        graph = Graph()
        loaded = whole(graph, version)
        text = graph.ours("EncodeText", clip=loaded.clip, prompt=PROMPT)[0]
        latents = keyframes_of(graph, loaded, "1.0" if version == "1.1" else "1.1", text)
        graph.add("SaveLatent", samples=latents, filename_prefix="official/wrong")
        assert sentence in error_of(server.finish(server.queue(graph.prompt)))


@pytest.mark.parametrize("name", ["text_to_video_1_0", "text_to_video_1_1", "image_to_video_1_1"])
def test_official_workflow_runs(
    server: Server, wholes: dict[str, Path], make_prompt: Callable[..., dict[str, Any]], root: Path, name: str
) -> None:
    """With files of the names that it declares, smaller and with fewer steps, it makes a video."""
    small = {**SIZE, "steps": 2}
    changes = {"SampleKeyframes": small, "DrawFirstFrame": small, "ImageToVideo": small}
    for node in ("SampleKeyframes", "ImageToVideo"):
        changes[node] = {**small, "num_frames": 3}
    used = (root / "workflows" / f"{name}.json").read_text()
    changes = {node: values for node, values in changes.items() if f"FusionFrames_{node}" in used}
    (file,) = server.saved_files(server.succeed(make_prompt(name, **changes, Interpolate={"steps": 2})))
    frames, rate = read_video(file)
    assert frames.shape == (9, 64, 64, 3)
    assert rate == pytest.approx(8.0, rel=0.01)


@pytest.mark.parametrize("name", ["text_to_video_1_0", "text_to_video_1_1", "image_to_video_1_1"])
def test_official_workflow_declares_its_files(root: Path, name: str) -> None:
    """Every file that a loader names is declared with the folder and the address to get it from.

    Flan-UL2 is not: it is a folder, and the frontend, which looks for files, would mark the node red for ever.
    """
    for node in json.loads((root / "workflows" / f"{name}.json").read_text())["nodes"]:
        names = {value for value in node["widgets_values"] if str(value).endswith(".pt")}
        declared = node["properties"].get("models", [])
        assert {model["name"] for model in declared} == names
        for model in declared:
            assert model["url"].startswith("https://huggingface.co/ai-forever/KandinskyVideo")
            assert model["url"].endswith(Path(model["name"]).name)
            assert model["directory"] in ("diffusion_models", "text_encoders", "vae")


def test_missing_files_are_named(server: Server, wholes: dict[str, Path]) -> None:
    """Before anything is queued: the file, the folder that it belongs into, and where it can be had."""
    folder = server.base / "models" / "diffusion_models" / FOLDERS["1.1"]
    (folder / "t5_projections.pt").rename(folder / "elsewhere")
    cases = [
        ("LoadModel", {"model_name": FOLDERS["1.1"]}, ("no t5_projections.pt in", "KandinskyVideo_1_1")),
        ("LoadUNet", {"unet_name": "t2v.pt"}, ("unet_name 't2v.pt' is not there", "ai-forever/KandinskyVideo_1_1")),
        ("LoadMoVQ", {"movq_name": "video_movq.pt"}, ("models/vae", "ai-forever/KandinskyVideo_1_1")),
        ("LoadTextEncoder", {"text_encoder": "gone", "projection": "auto"}, ("google/flan-ul2", "text_encoders")),
    ]
    try:
        for node, inputs, parts in cases:
            graph = Graph()
            graph.ours(node, **inputs, precision="auto")
            graph.add("PreviewAny", source=["1", 0])
            with pytest.raises(Rejected) as refusal:
                server.queue(graph.prompt)
            said = " ".join(refusal.value.sentences)
            assert all(part in said for part in parts), said
    finally:
        (folder / "elsewhere").rename(folder / "t5_projections.pt")
