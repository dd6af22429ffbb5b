"""What stock nodes hang on a model acts on our U-Nets as on ComfyUI's own, or is refused before sampling."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.host_graphs import TinyGraph
from tests.helpers.host_server import Listener, Server, error_of, run_inside
from tests.host.test_stock import latents_of

pytestmark = [pytest.mark.host, pytest.mark.slow]

NEUTRAL = {"b1": 1.0, "b2": 1.0, "s1": 1.0, "s2": 1.0}
STRONG = {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2}
NAG = {"nag_scale": 5.0, "nag_alpha": 0.5, "nag_tau": 1.5}
HALF = {"q": 1.0, "k": 1.0, "v": 0.7, "out": 1.0}
ONE = dict.fromkeys(HALF, 1.0)
TEMPORAL = dict.fromkeys(("self_structural", "self_temporal", "cross_structural", "cross_temporal"), 1.0)
# Node, inputs with which it changes the video, and inputs with which it must not (None: it has none such).
PATCHES: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "PerturbedAttentionGuidance": ({"scale": 3.0}, {"scale": 0.0}),
    "NAGuidance": (NAG, {**NAG, "nag_alpha": 0.0}),
    "FreeU": (STRONG, NEUTRAL),
    "FreeU_V2": (STRONG, NEUTRAL),
    "SelfAttentionGuidance": ({"scale": 2.0, "blur_sigma": 2.0}, {"scale": 0.0, "blur_sigma": 2.0}),
    "UNetSelfAttentionMultiply": (HALF, ONE),
    "UNetCrossAttentionMultiply": (HALF, ONE),
    "UNetTemporalAttentionMultiply": ({**TEMPORAL, "self_temporal": 0.5}, TEMPORAL),
    "HyperTile": ({"tile_size": 32, "swap_size": 1, "max_depth": 0, "scale_depth": False}, None),
    "TomePatchModel": ({"ratio": 0.5}, {"ratio": 0.0}),
    "PatchModelAddDownscale": (
        {"block_number": 1, "downscale_factor": 2.0, "start_percent": 0.0, "end_percent": 1.0}
        | {"downscale_after_skip": True, "downscale_method": "bicubic", "upscale_method": "bicubic"},
        None,
    ),
    "RescaleCFG": ({"multiplier": 0.7}, None),
    "RenormCFG": ({"cfg_trunc": 100.0, "renorm_cfg": 0.5}, None),
    "APG": ({"eta": 1.0, "norm_threshold": 5.0, "momentum": 0.0}, None),
    "CFGZeroStar": ({}, None),
    "CFGNorm": ({"strength": 1.0}, None),
    "TCFG": ({}, None),
    "Mahiro": ({}, None),
    "FreSca": ({"scale_low": 1.0, "scale_high": 1.5, "freq_cutoff": 2}, None),
    "Epsilon Scaling": ({"scaling_factor": 1.05}, {"scaling_factor": 1.0}),
    "TemporalScoreRescaling": ({"tsr_k": 0.8, "tsr_sigma": 1.0}, None),
}


def patched(graph: TinyGraph, name: str, inputs: dict[str, Any]) -> Any:
    """Latents of a keyframe model behind a patching node."""
    return graph.ksampler(graph.add(name, model=graph.keyframes, **inputs)[0])


@pytest.mark.parametrize("name", PATCHES)
def test_a_patch_acts(server: Server, name: str) -> None:
    """It changes the latents, and by nothing where it is set to nothing (FreeU's transforms there and back round)."""
    strong, neutral = PATCHES[name]
    graph = TinyGraph()
    links = [graph.ksampler(), patched(graph, name, strong)]
    links += [] if neutral is None else [patched(graph, name, neutral)]
    plain, acted, *same = latents_of(server, graph, *links)
    assert acted.isfinite().all()
    assert (acted - plain).abs().mean() > 1e-3
    assert all((latent - plain).abs().max() < 1e-3 for latent in same)


def test_a_patch_acts_on_interpolation(server: Server) -> None:
    """Perturbed attention on the interpolation U-Net; given frames stay."""
    graph = TinyGraph()
    keyframes = graph.sample_keyframes()
    model = graph.add("PerturbedAttentionGuidance", model=graph.interpolation, scale=3.0)[0]
    found = latents_of(
        server, graph, keyframes, graph.interpolate(keyframes), graph.interpolate(keyframes, model=model)
    )
    assert (found[2] - found[1]).abs().mean() > 1e-4
    assert torch.allclose(found[2][:, :, ::4], found[0], atol=1e-5)


@pytest.mark.parametrize("name", ["SelfAttentionGuidance", "UNetTemporalAttentionMultiply"])
def test_others_act_on_interpolation(server: Server, name: str) -> None:
    """On its groups of new frames, with guidance or without; given frames stay. (Attention over time it has none.)"""
    graph = TinyGraph()
    keyframes = graph.sample_keyframes()
    inputs = {"scale": 2.0, "blur_sigma": 2.0} if "Guidance" in name else {**TEMPORAL, "self_structural": 0.5}
    model = graph.add(name, model=graph.interpolation, **inputs)[0]
    found = latents_of(
        server, graph, keyframes, graph.interpolate(keyframes), graph.interpolate(keyframes, model=model)
    )
    assert (found[2] - found[1]).abs().mean() > 1e-4
    assert torch.allclose(found[2][:, :, ::4], found[0], atol=1e-5)


def test_multiplied_attention_is_the_weights(server: Server) -> None:
    """Values ×2 and output ×½ is nothing; a LoRA over it acts too; merging takes each weight once."""
    graph = TinyGraph()
    twice = patch(graph, "UNetSelfAttentionMultiply", {"q": 2.0, "k": 0.5, "v": 2.0, "out": 0.5})
    merged = graph.add("ModelMergeSimple", model1=twice, model2=graph.keyframes, ratio=1.0)[0]
    found = latents_of(server, graph, graph.ksampler(), graph.ksampler(twice), graph.ksampler(merged))
    assert (found[1] - found[0]).abs().max() < 1e-3
    assert (found[2] - found[1]).abs().max() < 1e-3


def patch(graph: TinyGraph, name: str, inputs: dict[str, Any]) -> Any:
    """A keyframe model behind a patching node."""
    return graph.add(name, model=graph.keyframes, **inputs)[0]


def sag_in_windows(graph: TinyGraph) -> Any:
    model = patch(graph, "SelfAttentionGuidance", {"scale": 0.5, "blur_sigma": 2.0})
    return graph.ksampler(graph.ours("ExtendVideo", model=model, window=4, overlap=2)[0])


SKIPPED = {"double_layers": "7", "single_layers": "7", "start_percent": 0.0, "end_percent": 1.0}


def skip_layer_guidance(graph: TinyGraph) -> Any:
    return patched(graph, "SkipLayerGuidanceDiT", {**SKIPPED, "scale": 3.0, "rescaling_scale": 0.0})


def skip_layer_guidance_simple(graph: TinyGraph) -> Any:
    return patched(graph, "SkipLayerGuidanceDiTSimple", SKIPPED)


def skip_layer_guidance_sd3(graph: TinyGraph) -> Any:
    inputs = {"layers": "7", "scale": 3.0, "start_percent": 0.0, "end_percent": 1.0}
    return patched(graph, "SkipLayerGuidanceSD3", inputs)


def scale_rope(graph: TinyGraph) -> Any:
    inputs = {f"{kind}_{axis}": float(kind == "scale") for kind in ("scale", "shift") for axis in "xyt"}
    return patched(graph, "ScaleROPE", inputs)


def flow_levels(graph: TinyGraph) -> Any:
    return patched(graph, "ModelSamplingSD3", {"shift": 3.0})


def continuous_levels(graph: TinyGraph) -> Any:
    inputs = {"sampling": "edm", "sigma_max": 120.0, "sigma_min": 0.002}
    return patched(graph, "ModelSamplingContinuousEDM", inputs)


def cascade_levels(graph: TinyGraph) -> Any:
    return patched(graph, "ModelSamplingStableCascade", {"shift": 2.0})


def schedule_of_other_length(graph: TinyGraph) -> Any:
    schedule = {"prompts": "0: a red circle\n5: a blue star", "num_frames": 8, "blend": True}
    return graph.ksampler(positive=graph.ours("SchedulePrompts", clip=graph.clip, **schedule)[0])


def odd_size(graph: TinyGraph) -> Any:
    images = graph.add("EmptyImage", width=72, height=72, batch_size=3, color=0)[0]
    latents = graph.add("VAEEncode", pixels=images, vae=graph.vae)[0]
    return graph.ksampler(latent_image=latents, denoise=0.5)


def far_too_large(graph: TinyGraph) -> Any:
    size = {"width": 2048, "height": 2048, "num_frames": 180, "batch_size": 2}
    return graph.ksampler(latent_image=graph.ours("EmptyVideoLatent", **size, fps=2.0)[0])


def one_step_of_nothing(graph: TinyGraph) -> Any:
    return graph.ksampler(scheduler="kl_optimal", steps=1)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (sag_in_windows, "use Perturbed-Attention Guidance with Long Video and Context Windows"),
        (skip_layer_guidance, "FusionFrames is a U-Net: use Perturbed-Attention Guidance instead"),
        (skip_layer_guidance_simple, "FusionFrames is a U-Net: use Perturbed-Attention Guidance instead"),
        (skip_layer_guidance_sd3, "FusionFrames is a U-Net: use Perturbed-Attention Guidance instead"),
        (scale_rope, "Scale ROPE moves the positions of transformers"),
        (flow_levels, "the model has noise levels of another kind of model"),
        (continuous_levels, "the model has noise levels of another kind of model"),
        (cascade_levels, "the model has noise levels of another kind of model"),
        (schedule_of_other_length, "num_keyframes must be the Prompt Schedule's, which is 8; got 5"),
        (odd_size, "must be multiples of 16 pixels for tiny; these latents stand for 72×72"),
        (far_too_large, "GB beside the model, and"),
        (one_step_of_nothing, "take more steps or another scheduler"),
    ],
)
def test_what_cannot_work_is_refused_before_sampling(
    server: Server, listener: Listener, build: Callable[[TinyGraph], Any], sentence: str
) -> None:
    """One sentence, and not one step of any sampler, stock ones included."""
    graph = TinyGraph()
    graph.save_latents(build(graph))
    prompt_id = server.queue(graph.prompt)
    entry = server.finish(prompt_id)
    assert entry["status"]["status_str"] == "error"
    assert sentence in error_of(entry)
    assert "\n" not in error_of(entry).strip()
    assert listener.find("progress", prompt_id=prompt_id) == []


INSIDE = """
import json, sys
import inside
pack = inside.start(sys.argv.pop(1))
import torch
import comfy.ldm.modules.attention as attention
import comfy.model_management as management
patches, stock = pack("nodes.host.model.attention_patches"), pack("nodes.host.sampling.stock_patches")
unets, keyframe = pack("fusionframes_core.models.unet.unet"), pack("fusionframes_core.models.unet.keyframe_unet")
model = pack("nodes.host").load_parts("tiny", "fp32")[0]
network, report, shapes, heard = model.model.diffusion_model, {}, [], []
x, t, text = torch.randn(2, 4, 5, 8, 8), torch.full((2,), 500.0), torch.randn(2, 24, 128)
mask = torch.arange(24)[None].expand(2, -1) < 9


def run(**options):
    return network(x, t, text, attention_mask=mask.float(), transformer_options=options)


def refusal(check, *given):
    try:
        check(*given)
    except ValueError as error:
        return str(error)
    return ""


def tell(n, c, v, extra):
    extra["told"] = True
    return n, c, v


def hear(n, extra):
    heard.append("told" in extra)
    return n


def cancel(kind):
    def patch(*tensors):
        shapes.append(list(tensors[0].shape))
        management.interrupt_current_processing(True)
        return tensors[:3]
    return {"patches": {kind: [patch]}}


with torch.inference_mode():
    positions = keyframe.frame_positions(network.positions, 5).expand(2, -1)
    alone = unets.UNet.forward(network, x, t, unets.KeyframeCondition(text, mask, positions=positions))
    plain = run()
    report["core"] = torch.equal(plain, alone)
    for name in ("attention_sub_quad", "attention_split", "attention_basic"):
        attention.optimized_attention = getattr(attention, name)
        report[name] = float((run() - plain).abs().max())
    attention.optimized_attention = attention.attention_pytorch
    used = []
    override = lambda function, *inputs, **named: used.append(1) or function(*inputs, **named)
    report["override"] = [torch.equal(run(optimized_attention_override=override), plain), len(used) > 10]
    for key in (("middle", 0), ("middle", 0, 0), ("output", 1)):
        replaced = run(patches_replace={"attn1": {key: lambda q, k, v, extra: v}})
        report[" ".join(map(str, key))] = float((replaced - plain).abs().mean())
    report["text"] = float((run(patches={"attn2_patch": [lambda n, c, v, extra: (n, c * 2, v)]}) - plain).abs().mean())
    told = run(patches={"attn1_patch": [tell], "attn1_output_patch": [hear]})
    report["told"] = [torch.equal(told, plain), len(heard) > 2, all(heard)]
    try:
        run(**cancel("attn1_patch"))
    except management.InterruptProcessingException:
        report["cancelled after"] = shapes
control = {"positive": [{"control": object()}], "negative": [{}]}
report["control"] = refusal(stock.require_known_conditions, control)
report["none"] = refusal(stock.require_known_conditions, {"positive": [{"control": None}]})
dit = {"transformer_options": {"patches_replace": {"dit": {("double_block", 3): None}}}}
report["dit"] = refusal(stock.require_known_patches, network, dit)
foreign = {"transformer_options": {"patches_replace": {"attn2": {("input", 8): None}}}}
report["block"] = refusal(stock.require_known_patches, network, foreign)
print("\\n" + json.dumps(report))
"""


def test_attention_is_comfyuis(comfyui: Any, root: Path) -> None:
    """Bit for bit core's with torch's attention, near it with others; overrides, blocks, Cancel and refusals."""
    report = json.loads(run_inside(comfyui, "-c", INSIDE, str(root))[0].splitlines()[-1])
    print(report)
    assert report["core"]
    assert max(report[name] for name in ("attention_sub_quad", "attention_split", "attention_basic")) < 1e-4
    assert report["override"] == [True, True]
    assert report["middle 0"] == report["middle 0 0"] > 1e-4
    assert report["output 1"] > 1e-4
    assert report["text"] > 1e-4
    assert report["told"] == [True, True, True], "patches of one layer share what they are told"
    assert report["cancelled after"] == [[10, 64, 64]]  # the first attention's: nothing ran after it
    assert "ControlNet" in report["control"]
    assert report["none"] == ""
    assert "of the kind dit" in report["dit"]
    assert "attn2 of block input 8" in report["block"]
