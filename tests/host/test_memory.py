"""Weights come and go by ComfyUI's own management: checked without a GPU, on a device that holds no memory.

With one byte of memory to spare ComfyUI leaves every weight where it is and its layers fetch them one by one. The meta
device stands for the GPU: a layer that does not fetch its weights fails there, since its own are on the CPU.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.host_server import run_inside

pytestmark = [pytest.mark.host, pytest.mark.slow]

STREAM = """
import json, sys
import inside
pack = inside.start(sys.argv.pop(1))
import torch
keyframes, interpolation, clip, vae, _ = pack("nodes.host").load_parts("tiny", "fp16")
meta = torch.device("meta")
x, t, text = torch.empty(1, 4, 5, 8, 8, device=meta), torch.ones(1, device=meta), torch.empty(1, 24, 128, device=meta)
one = torch.ones(1, 1, device=meta)
seen = {"attention_mask": torch.ones(1, 24, device=meta)}
given = dict.fromkeys(["informed", "temporal", "skip_frames", "perturbation"], one)
given |= {"given": x[:, :, ::4], "keyframes": x[:, :, ::4], "scale_input": lambda base: base}


def encode(model):
    model.set_clip_options({"execution_device": meta})
    return model.encode([5, 6, 1]).context


calls = {
    "keyframes": (keyframes, lambda model: model.diffusion_model(x, t, text, **seen)),
    "interpolation": (interpolation, lambda model: model.diffusion_model(x, t, text, **seen, **given)),
    "clip": (clip.patcher, encode),
    "vae": (vae.patcher, lambda model: model.decode(x)),
    "vae encoder": (vae.patcher, lambda model: model.encode(torch.empty(1, 3, 5, 64, 64, device=meta))),
}
report = {}
with torch.inference_mode():
    for part, (patcher, call) in calls.items():
        patcher.load_device = meta
        patcher.load(device_to=meta, lowvram_model_memory=1)
        left = {str(value.device) for value in patcher.model.parameters()}
        out = call(patcher.model)
        report[part] = [sorted(left), str(out.device), list(out.shape)]
print("\\n" + json.dumps(report))
"""

# One step of every network and both ways of every autoencoder, at a size that no test could hold.
WORKING = """
import dataclasses, json, sys
import inside
pack = inside.start(sys.argv.pop(1))
import torch
core, vaes = pack("fusionframes_core.presets"), pack("nodes.host.model.vae")
estimates = {"decode": vaes.decode_estimate, "encode": vaes.encode_estimate}
models = pack("nodes.host.model.hosted_models")
build = pack("fusionframes_core.checkpoints.component").build
conditions = pack("fusionframes_core.models.unet.interpolation_unet")
keyframe = pack("fusionframes_core.models.unet.unet").KeyframeCondition
meta, dtype, batch, frames, side = torch.device("meta"), torch.bfloat16, 2, 17, 32
torch.set_default_device(meta)


def most(work, *inputs):
    with torch.inference_mode(), inside.counter() as held:
        work(*inputs)
    return held.most


report = {}
for name in ("tiny", "kandinsky-video-1.0", "kandinsky-video-1.1"):
    config = core.PRESETS[name]
    unet, between = (build(part).to(dtype) for part in (config.keyframe, config.interpolation))
    movq = vaes.VideoAutoencoder(config.movq, dtype=dtype)
    t, one = torch.ones(batch), torch.ones(batch, dtype=torch.bool)
    text = torch.empty(batch, 77, config.text.context_dim, dtype=dtype), torch.ones(batch, 77, dtype=torch.bool)
    scores = {score: t for score in ("motion_score", "noise_augmentation") if getattr(config.keyframe, score)}
    seen = keyframe(*text, torch.ones(batch, frames), **scores)
    x = torch.empty(batch, config.keyframe.in_channels, frames, side, side, dtype=dtype)
    found = most(unet, x, t, seen)
    size = batch * frames * side * side * dtype.itemsize
    report[name + " keyframes"] = models.WORKING["keyframe"] * config.keyframe.model_channels * size / found
    given = torch.empty(batch, 4, 5, side, side, dtype=dtype)
    seen = conditions.InterpolationCondition(given, *text, t.long(), t, one)
    found = most(between, torch.empty(batch, 12, 4, side, side, dtype=dtype), t, seen)
    channels = config.interpolation.trunk.model_channels
    report[name + " interpolation"] = models.WORKING["interpolation"] * channels * size / found
    size = 8 * side
    for work, inputs in (
        ("decode", torch.empty(1, 4, frames, side, side, dtype=dtype)),
        ("encode", torch.empty(1, 3, frames, size, size, dtype=dtype)),
    ):
        found = most(getattr(movq, work), inputs)
        report[f"{name} {work}"] = estimates[work](movq, meta, inputs.shape, dtype) / found
print("\\n" + json.dumps(report))
"""


def test_estimates_of_working_memory(comfyui: Any, root: Path) -> None:
    """What ComfyUI makes room for is at least a fifth more than tensors hold at once, and not three times as much."""
    output, _ = run_inside(comfyui, "-c", WORKING, str(root))
    report = json.loads(output.splitlines()[-1])
    print({work: f"{ratio:.2f}" for work, ratio in report.items()})
    assert all(1.2 <= ratio <= 3 for ratio in report.values()), report


def test_every_layer_fetches_its_weights(comfyui: Any, root: Path) -> None:
    """All four networks run on the device while all their weights stay in main memory."""
    output, _ = run_inside(comfyui, "-c", STREAM, str(root))
    report = json.loads(output.splitlines()[-1])
    assert {part: found[0] for part, found in report.items()} == {part: ["cpu"] for part in report}
    assert {part: found[1] for part, found in report.items()} == dict.fromkeys(report, "meta")
    assert report["interpolation"][2] == [1, 4, 5, 8, 8]
    assert report["clip"][2] == [1, 24, 128]
    assert report["vae"][2] == [1, 3, 5, 64, 64]


# A whole run as the nodes make it; then ComfyUI sends every model away, as /free does, and the graph's outputs go.
RUN = """
import gc, json, sys, weakref
import inside
pack = inside.start(sys.argv.pop(1))
import torch
import comfy.model_management as management
host, nodes = pack("nodes.host"), {node.__name__: node for node in pack("nodes").NODES}
how = {"seed": 1, "sampler": "record", "scheduler": "record"}


def run():
    keyframes, interpolation, clip, vae, _ = host.load_parts("tiny", "fp32")
    patchers = {"keyframes": keyframes, "interpolation": interpolation, "clip": clip.patcher, "vae": vae.patcher}
    text = nodes["EncodeText"].execute(clip, "a red circle").args[0]
    size = {"width": 64, "height": 64, "num_frames": 3}
    latents = nodes["SampleKeyframes"].execute(keyframes, text, **size, steps=1, cfg=3.0, **how).args[0]
    asked = {"passes": 1, "skip_frames": 3, "perturbation": 0, "loop": False, "steps": 1, "cfg": 1.25}
    latents = nodes["Interpolate"].execute(interpolation, latents, **asked, **how).args[0]
    nodes["Decode"].execute(vae, latents, temporal=True, fps=0.0, chunk=16, overlap=4)
    managed = [loaded.model.model for loaded in management.current_loaded_models]
    report["managed"] = [name for name, patcher in patchers.items() if any(patcher.model is model for model in managed)]
    return {name: weakref.ref(patcher.model) for name, patcher in patchers.items()}


report = {}
with torch.inference_mode():
    models = run()
management.unload_all_models()
gc.collect()
report["left"] = [name for name, model in models.items() if model() is not None]
report["loaded"] = len(management.current_loaded_models)
print("\\n" + json.dumps(report))
"""


def test_nothing_stays(comfyui: Any, root: Path) -> None:
    """ComfyUI manages all four networks, and when it unloads them and the graph is gone, none is left in memory."""
    report = json.loads(run_inside(comfyui, "-c", RUN, str(root))[0].splitlines()[-1])
    assert report == {"managed": ["keyframes", "interpolation", "clip", "vae"], "left": [], "loaded": 0}


# Decoding and encoding with made-up amounts of free memory, by the pack's nodes and the stock ones.
PLANNED = """
import json, sys
import inside
pack = inside.start(sys.argv.pop(1))
import nodes as stock
import torch
host, free, plans = pack("nodes.host"), pack("nodes.host.comfy.memory"), pack("nodes.host.model.vae_memory")
decode_plan = pack("fusionframes_core.models.movq.decode_plan")
decode = {node.__name__: node for node in pack("nodes").NODES}["Decode"].execute
_, _, _, vae, _ = host.load_parts("tiny", "fp32")
movq, shown = vae.first_stage_model, []
pack("nodes.host.sampling.stages").show = shown.append
vae.decode_tiled_3d = vae.encode_tiled_3d = lambda *_, **__: shown.append("tiled")
latents, pixels = {"samples": torch.zeros(1, 4, 13, 8, 8)}, torch.zeros(9, 64, 64, 3)
decode_plan.BAND_NUMBERS = 0  # of frames as small as these a band's own work is more than the frames
inputs = {"temporal": True, "fps": 0.0, "overlap": -1}
work = {
    "auto": lambda: decode(vae, latents, chunk=0, **inputs),
    "asked": lambda: decode(vae, latents, chunk=2, **inputs),
    "stock": lambda: stock.VAEDecode().decode(vae, latents),
    "encode": lambda: vae.encode(pixels),
}
taken = {"decode": [], "encode": []}
for kind, plan in (("decode", plans.plan_decoding), ("encode", plans.plan_encoding)):
    def watched(*given, plan=plan, kind=kind):
        taken[kind].append(plan(*given))
        return taken[kind][-1]
    setattr(sys.modules[type(movq).__module__], plan.__name__, watched)
report = {}
one = decode_plan.decode_bytes(movq.config, 1, (8, 8), torch.float32)
for share in (0.01, 0.5, 1.2, 4.5, 50):
    free.available_bytes = lambda device: int(share * one)
    told = {
        "decode": vae.memory_used_decode(latents["samples"].shape, torch.float32),
        "encode": vae.memory_used_encode((1, 3, 9, 64, 64), torch.float32),
    }
    report[share] = found = {"told": told}
    for name, run in work.items():
        for plans_of in taken.values():
            plans_of.clear()
        shown.clear()
        try:
            with torch.inference_mode():
                run()
            kind = "encode" if name == "encode" else "decode"
            plan = taken[kind][-1]
            if kind == "encode":
                found[name] = decode_plan.encode_bytes(movq.config, plan, (64, 64), torch.float32)
            else:
                found[name] = [plan.bytes, *shown]
        except ValueError as error:
            found[name] = [str(error), *shown]
print("\\n" + json.dumps(report))
"""


def test_estimates_are_those_of_the_plans(comfyui: Any, root: Path) -> None:
    """ComfyUI is told what is then taken; the node shows it; what cannot fit is refused, and not tried in tiles."""
    output, _ = run_inside(comfyui, "-c", PLANNED, str(root))
    report = json.loads(output.splitlines()[-1])
    refused = report.pop("0.01")
    for name in ("auto", "asked", "stock", "encode"):
        (sentence,) = refused[name]
        assert "free memory must be at least" in sentence
        assert ("decode 2 frames at once" in sentence) == (name == "asked")
    for found in report.values():
        assert found["auto"][0] == found["stock"][0] == found["told"]["decode"]
        assert "tiled" not in str(found)
    assert report["0.5"]["auto"][1] == "temporal_size 1, temporal_overlap 0, in bands to fit the free memory"
    assert report["50"]["auto"][1] == "temporal_size 13, temporal_overlap 3"
    assert report["50"]["asked"][1] == "temporal_size 2, temporal_overlap 0"
    for found in report.values():
        if isinstance(found["encode"], int):
            assert found["encode"] == found["told"]["encode"]
    assert isinstance(report["50"]["encode"], int)
