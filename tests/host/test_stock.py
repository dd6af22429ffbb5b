"""Stock nodes on our MODEL, CLIP and VAE, in a real ComfyUI."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fusionframes_core.pipeline import FusionFramesPipeline
from tests.helpers.host_graphs import CFG, Graph, TinyGraph
from tests.helpers.host_media import read_images, read_video
from tests.helpers.host_server import Server

pytestmark = [pytest.mark.host, pytest.mark.slow]

PROMPT = "a large red circle moving right"


def latents_of(server: Server, graph: Graph, *latents: Any) -> list[torch.Tensor]:
    """Run a graph and read back latents at its links, exactly."""
    for index, link in enumerate(latents):
        graph.add("SaveLatent", samples=link, filename_prefix=f"latents/{index:02d}")
    entry = server.succeed(graph.prompt)
    files = sorted(server.saved_files(entry, "latents"))
    assert len(files) == len(latents)
    return [load_file(file)["latent_tensor"] for file in files]


@pytest.fixture(scope="session")
def pipeline() -> FusionFramesPipeline:
    """The tiny model in core."""
    return FusionFramesPipeline.from_pretrained("tiny")


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m", "ddpm"])
def test_samplers_of_record_are_cores(server: Server, pipeline: FusionFramesPipeline, sampler: str) -> None:
    """Sample Keyframes and Interpolate give core's latents for the same seed within 1e-3."""
    graph = TinyGraph(PROMPT)
    keyframes = graph.sample_keyframes(sampler=sampler, steps=4)
    frames = graph.interpolate(keyframes, sampler=sampler, perturbation=40)
    found = latents_of(server, graph, keyframes, frames)
    text = pipeline.encode_text([PROMPT])
    wanted = pipeline.sample_keyframes(text, num_frames=5, seed=3, steps=4, sampler=sampler)
    how = {"steps": 2, "guidance": 0.25, "perturbation": 40}  # what the graph asks for
    wanted_frames = pipeline.interpolate(found[0], seed=3, sampler=sampler, **how)
    gaps = [(found[0] - wanted).abs().max().item(), (found[1] - wanted_frames).abs().max().item()]
    print(f"{sampler}: keyframes differ by {gaps[0]:.1e}, interpolated frames by {gaps[1]:.1e}")
    assert max(gaps) < 1e-3
    assert torch.equal(found[1][:, :, ::4], found[0])


def test_sampler_custom_advanced_is_our_node(server: Server) -> None:
    """With Official Sampling it makes the latents of Sample Keyframes and of Interpolate."""
    graph = TinyGraph(PROMPT)
    ours = graph.sample_keyframes()
    plan = graph.ours(
        "PlanSampling",
        model=graph.keyframes,
        positive=graph.positive,
        negative=graph.negative,
        seed=3,
        steps=3,
        cfg=CFG,
    )
    advanced = graph.add(
        "SamplerCustomAdvanced",
        noise=plan[0],
        guider=plan[1],
        sampler=plan[2],
        sigmas=plan[3],
        latent_image=graph.empty(),
    )
    frames = graph.interpolate(ours)
    prepared = graph.ours("PrepareInterpolation", latents=ours, skip_frames=3, perturbation=0)
    conditions = {"positive": prepared[0], "negative": prepared[1]}
    plan = graph.ours("PlanSampling", model=graph.interpolation, **conditions, seed=3, steps=2, cfg=1.25)
    between = graph.add(
        "SamplerCustomAdvanced",
        noise=plan[0],
        guider=plan[1],
        sampler=plan[2],
        sigmas=plan[3],
        latent_image=prepared[2],
    )
    found = latents_of(server, graph, ours, advanced[0], frames, between[0])
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[2], found[3])


def test_ksampler_to_saved_videos(server: Server) -> None:
    """CLIP Text Encode ×2 → KSampler (euler, dpmpp_2m, ddim, lcm) → VAE Decode → Save Video, Save WEBM."""
    graph = TinyGraph(PROMPT)
    latents = [graph.ksampler(sampler_name=name) for name in ("euler", "dpmpp_2m", "ddim", "lcm")]
    for link in latents:
        images = graph.add("VAEDecode", samples=link, vae=graph.vae)[0]
        video = graph.add("CreateVideo", images=images, fps=8.0)[0]
        graph.save_video(video)
    graph.add("SaveWEBM", images=images, filename_prefix="webm/test", codec="vp9", fps=8.0, crf=32.0)
    found = latents_of(server, graph, *latents)
    assert all(latent.shape == (1, 4, 5, 8, 8) and latent.isfinite().all() for latent in found)
    assert all(latent.abs().max() <= 1.001 for latent in found)  # thresholded, whatever the sampler
    assert torch.equal(found[0], found[2])  # ComfyUI's ddim is euler
    assert not torch.allclose(found[0], found[1])
    entry = server.history[-1]
    files = server.saved_files(entry)
    assert sorted(file.suffix for file in files) == [".mp4"] * 4 + [".webm"]
    assert all(read_video(file)[0].shape == (5, 64, 64, 3) for file in files)


def test_ksampler_interpolates(server: Server) -> None:
    """Prepare Interpolation → KSampler: the given frames stay exact with every sampler, the rest is new."""
    graph = TinyGraph(PROMPT)
    keyframes = graph.sample_keyframes()
    prepared = graph.ours("PrepareInterpolation", latents=keyframes, skip_frames=3, perturbation=0)
    conditions = {"positive": prepared[0], "negative": prepared[1], "latent_image": prepared[2]}
    names = ("euler", "dpmpp_2m", "lcm", "euler_ancestral")
    sampled = [
        graph.ksampler(graph.interpolation, **conditions, sampler_name=name, cfg=1.25, steps=2) for name in names
    ]
    given, *found = latents_of(server, graph, keyframes, *sampled)
    for latent in found:
        assert latent.shape == (1, 4, 17, 8, 8)
        assert torch.allclose(latent[:, :, ::4], given, atol=1e-5)
        assert (latent[:, :, 2::4] - (given[:, :, 1:] + given[:, :, :-1]) / 2).abs().mean() > 1e-3


def test_decoders_agree(server: Server, pipeline: FusionFramesPipeline) -> None:
    """Our Decode, VAE Decode and VAE Decode (Tiled) give the same frames, and VAE Encode core's latents of them."""
    graph = TinyGraph(PROMPT)
    latents = graph.sample_keyframes()
    ours = graph.decode(latents)[1]
    stock = graph.add("VAEDecode", samples=latents, vae=graph.vae)[0]
    tiled = graph.add(
        "VAEDecodeTiled", samples=latents, vae=graph.vae, tile_size=64, overlap=0, temporal_size=64, temporal_overlap=8
    )[0]
    for index, images in enumerate((ours, stock, tiled)):
        graph.add("SaveImage", images=images, filename_prefix=f"decoders/{index}")
    encoded = graph.add("VAEEncode", pixels=ours, vae=graph.vae)[0]
    _, encoded = latents_of(server, graph, latents, encoded)
    frames = read_images([file for file in server.saved_files(server.history[-1]) if file.suffix == ".png"])
    frames = frames.reshape(3, 5, 64, 64, 3).astype(int)
    assert np.abs(frames[1] - frames[0]).max() <= 1
    assert np.abs(frames[2] - frames[0]).mean() < 3
    pixels = torch.tensor(frames[0, ..., ::-1].copy()).permute(3, 0, 1, 2)[None] / 127.5 - 1
    assert (pipeline.encode(pixels) - encoded).abs().mean() < 1e-2  # the PNG files are rounded


def test_context_windows(server: Server) -> None:
    """Stock Context Windows (Manual) make 48 keyframes of a model of 16, and so does Long Video."""
    graph = TinyGraph(PROMPT)
    windows = {"context_length": 16, "context_overlap": 8, "context_schedule": "standard_static", "dim": 2}
    others = {"context_stride": 1, "closed_loop": False, "fuse_method": "pyramid", "freenoise": False}
    others |= {"cond_retain_index_list": "", "split_conds_to_windows": False}
    others |= {"latent_retain_index_list": "", "causal_window_fix": True}  # unknown to 0.18, which does not mind
    stock = graph.add("ContextWindowsManual", model=graph.keyframes, **windows, **others)[0]
    ours = graph.ours("ExtendVideo", model=graph.keyframes, window=16, overlap=8)[0]
    sampled = [graph.ksampler(model, num_frames=48, steps=2) for model in (stock, ours)]
    for latent in latents_of(server, graph, *sampled):
        assert latent.shape == (1, 4, 48, 8, 8)
        assert latent.isfinite().all()
        assert (latent[:, :, 0] - latent[:, :, -1]).abs().mean() > 1e-3


def test_easycache_and_model_sampling(server: Server) -> None:
    """EasyCache skips steps and stays near; Model Sampling Discrete rebuilds the same schedule, or another."""
    graph = TinyGraph(PROMPT)
    cached = graph.add(
        "EasyCache", model=graph.keyframes, reuse_threshold=0.4, start_percent=0.1, end_percent=0.95, verbose=True
    )[0]
    rebuilt, other = (
        graph.add("ModelSamplingDiscrete", model=graph.keyframes, sampling=kind, zsnr=True)[0]
        for kind in ("v_prediction", "eps")
    )
    models = (graph.keyframes, cached, rebuilt, other)
    plain, cached, rebuilt, other = latents_of(server, graph, *(graph.ksampler(model, steps=8) for model in models))
    assert 0 < (cached - plain).abs().mean() < 0.5 * plain.abs().mean()
    assert "EasyCache" in server.log.read_text()
    assert (rebuilt - plain).abs().max() < 2e-2
    assert (other - plain).abs().mean() > 1e-2


@pytest.mark.skipif(shutil.which("c++") is None and shutil.which("cl") is None, reason="inductor needs a C++ compiler")
def test_torch_compile(server: Server) -> None:
    """Torch Compile Model changes nothing of what the U-Net gives; test_one_graph.py tells of breaks. Takes minutes."""
    graph = TinyGraph(PROMPT)
    compiled = graph.add("TorchCompileModel", model=graph.keyframes, backend="inductor")[0]
    plain, fast = latents_of(server, graph, *(graph.ksampler(model) for model in (graph.keyframes, compiled)))
    print(f"compiled latents differ by {(fast - plain).abs().max():.1e}")
    assert 0 < (fast - plain).abs().max() < 1e-3


def test_dual_guidance(server: Server) -> None:
    """DualCFGGuider takes our model: with equal weights and one prompt twice it is plain guidance."""
    graph = TinyGraph(PROMPT)
    plan = graph.ours("PlanSampling", model=graph.keyframes, positive=graph.positive, seed=3, steps=3, cfg=CFG)
    other = graph.add("CLIPTextEncode", clip=graph.clip, text="a small blue star, spinning")[0]
    sampled = []
    for middle, weight in ((graph.positive, CFG), (other, CFG + 1)):
        conditions = {"cond1": graph.positive, "cond2": middle, "negative": graph.negative}
        weights = {"cfg_conds": CFG, "cfg_cond2_negative": weight, "style": "regular"}
        guider = graph.add("DualCFGGuider", model=graph.keyframes, **conditions, **weights)[0]
        parts = {"noise": plan[0], "guider": guider, "sampler": plan[2], "sigmas": plan[3]}
        sampled.append(graph.add("SamplerCustomAdvanced", **parts, latent_image=graph.empty())[0])
    plain, same, mixed = latents_of(server, graph, graph.sample_keyframes(), *sampled)
    assert (same - plain).abs().max() < 1e-3
    assert (mixed - plain).abs().mean() > 1e-2
    assert mixed.abs().max() <= 1.001


def test_lora(server: Server, root: Path) -> None:
    """LoraLoaderModelOnly patches linear layers, convolutions and the merge α; strength 0 does nothing."""
    folder = server.base / "models" / "loras"
    folder.mkdir(exist_ok=True)
    for part, names in LORA.items():
        weights = load_file(root / "fusionframes_core" / "tiny" / f"{part}.safetensors")
        save_file(make_lora(weights, names), folder / f"{part}.safetensors")
    graph = TinyGraph(PROMPT)

    def patched(model: Any, part: str, strength: float) -> Any:
        name = {"lora_name": f"{part}.safetensors", "strength_model": strength}
        return graph.add("LoraLoaderModelOnly", model=model, **name)[0]

    keyframes = [
        graph.ksampler(model, steps=2)
        for model in (
            graph.keyframes,
            patched(graph.keyframes, "keyframe", 0.0),
            patched(graph.keyframes, "keyframe", 1.0),
        )
    ]
    frames = [
        graph.interpolate(keyframes[0], model=model)
        for model in (graph.interpolation, patched(graph.interpolation, "interpolation", 1.0))
    ]
    found = latents_of(server, graph, *keyframes, *frames)
    assert torch.equal(found[0], found[1])
    assert (found[2] - found[0]).abs().mean() > 1e-3
    assert (found[4] - found[3]).abs().mean() > 1e-4
    assert "not loaded" not in server.log.read_text()


LORA = {
    "keyframe": ("modulation.weight", "projection.weight", "to_query.weight", "projections.1.weight"),
    "interpolation": ("temporal.merge.alpha.weight", "temporal.projection.weight"),
}


def make_lora(weights: dict[str, torch.Tensor], endings: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Rank-1 changes of every weight whose name ends so; a full difference for vectors."""
    lora = {}
    for key, weight in weights.items():
        name = "diffusion_model." + key.removesuffix(".weight")
        if not key.endswith(endings):
            continue
        if weight.ndim == 1:
            lora[f"{name}.diff"] = torch.full_like(weight, 0.3, dtype=torch.float32)
            continue
        lora[f"{name}.lora_A.weight"] = torch.full((1, *weight.shape[1:]), 0.05)
        lora[f"{name}.lora_B.weight"] = torch.full((weight.shape[0], 1, *[1] * (weight.ndim - 2)), 0.05)
    assert lora
    return lora
