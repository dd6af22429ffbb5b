"""Every sampler and scheduler of the running ComfyUI makes a picture, with both U-Nets, or says why it cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.host_server import run_inside

pytestmark = [pytest.mark.host, pytest.mark.slow]

# Pictures of tiny, compared with those of its own sampler: how far they are and how rough, as a multiple.
SWEEP = """
import json, logging, sys
import inside
pack = inside.start(sys.argv.pop(1))
import torch
import comfy.utils
comfy.utils.set_progress_bar_enabled(False)
logging.disable(logging.WARNING)
host, conditionings = pack("nodes.host"), pack("nodes.host.sampling.conditionings")
core = pack("fusionframes_core.sampling.options")
names = {"sampler": host.sampler_names(), "scheduler": host.scheduler_names()}


def roughness(pixels):
    return sum(pixels.diff(dim=axis).abs().mean().item() for axis in (1, 2))


def pixels_of(latents):
    return host.decode(vae, latents, True, host.decode_windows(16, 4))


def sweep(stage, model, sample, steps, cfg):
    default = pixels_of(sample(host.sampling_options(model, 7, steps, cfg)))
    for kind, choices in names.items():
        for name in choices:
            try:
                latents = sample(host.sampling_options(model, 7, steps, cfg, **{kind: name}))
            except ValueError as error:
                report.append([stage, name, None, None, str(error)])
                continue
            pixels = pixels_of(latents)
            far = (pixels - default).abs().mean().item()
            report.append([stage, name, far, roughness(pixels) / roughness(default), ""])


report = []
with torch.inference_mode():
    keyframes, between, clip, vae, _ = host.load_parts("tiny", "fp32")
    # Without a named background some samplers find another one.
    text = conditionings.encode(clip, "a large red circle moving right on a black background")
    pair = conditionings.text_conditionings(text, None)
    empty = host.empty_latents(1, host.VideoShape(64, 64, 4))
    sweep("keyframes", keyframes, lambda options: host.sample_keyframes(keyframes, pair, empty, options), 8, 5.0)
    given = host.sample_keyframes(keyframes, pair, empty, host.sampling_options(keyframes, 7, 8, 5.0))
    asked = core.InterpolationOptions()
    for steps in (1, 4):
        sample = lambda options: host.interpolate(between, given, None, asked, options)
        sweep(f"interpolation in {steps}", between, sample, steps, 1.0)
print("\\n" + json.dumps(report))
"""

# Noise is 3 to 9 times as rough as the picture; at 8 steps a few samplers leave some of it, at most 1.6 times.
LIMITS = {"keyframes": (0.25, 1.8), "interpolation in 1": (0.02, 1.1), "interpolation in 4": (0.02, 1.1)}


def test_every_sampler_and_scheduler(comfyui: Any, root: Path) -> None:
    """Each is near the default's picture; a scheduler that has no such number of steps is refused in a sentence."""
    report = json.loads(run_inside(comfyui, "-c", SWEEP, str(root), seconds=1800)[0].splitlines()[-1])
    names = {name for _, name, *_ in report}
    assert {"heun", "dpm_2_ancestral", "dpm_fast", "dpm_adaptive", "uni_pc", "karras", "kl_optimal"} <= names
    refused = {(stage, name): said for stage, name, _, _, said in report if said}
    print(f"{len(names)} samplers and schedulers; refused: {refused}")
    assert all("take more steps or another scheduler" in said for said in refused.values()), refused
    assert len(refused) <= 1
    wrong = [
        (stage, name, far, rough)
        for stage, name, far, rough, said in report
        if not said and not (far < LIMITS[stage][0] and rough < LIMITS[stage][1])
    ]
    assert wrong == []


STEPS = """
import json, sys
import inside
pack = inside.start(sys.argv.pop(1))
import torch
import comfy.samplers
steps, sigmas = pack("nodes.host.sampling.steady_steps"), pack("nodes.host.sampling.sigmas")
seen = []


def model(x, sigma, **extra):
    seen.append(float(sigma[0]))
    return torch.full_like(x, 2.0)


report, x = {}, torch.randn(1, 4, 5, 8, 8)
walk = torch.tensor([sigmas.ZERO_SNR_SIGMA, 3.0, 1.0, 0.0])
for name in ("heun", "dpm_fast", "dpm_adaptive", "uni_pc", "euler", "lms"):
    sampler = comfy.samplers.sampler_object(name)
    function = steps.steady(sampler).sampler_function
    needs = [function.needs_euler(part) for part in (walk, walk[1:], walk[2:])]
    report[name] = {"needs": needs, "untouched": sampler.sampler_function is function.function}
said = []
heun = steps.steady(comfy.samplers.sampler_object("heun")).sampler_function
result = heun(model, x * walk[0], walk, callback=lambda info: said.append(info["i"]), disable=True)
report["walk"] = {"near": float((result - 2).abs().max()), "callbacks": said, "first": seen[0]}
core = pack("nodes.host.sampling.comfy_samplers").make_sampler("ddim", None)
report["core"] = steps.steady(core) is core


def of_another_pack(model, x, sigmas, **options):
    return x


other = steps.steady(comfy.samplers.KSAMPLER(of_another_pack)).sampler_function
report["other"] = [other.needs_euler(walk), other.needs_euler(walk[1:])]
print("\\n" + json.dumps(report))
"""


def test_where_euler_steps_in(comfyui: Any, root: Path) -> None:
    """Only for the steps that a sampler cannot take; steps are counted on, and core's samplers are left alone."""
    report = json.loads(run_inside(comfyui, "-c", STEPS, str(root))[0].splitlines()[-1])
    needs = {name: found["needs"] for name, found in report.items() if isinstance(found, dict) and "needs" in found}
    assert needs == {
        "heun": [True, False, False],
        "dpm_fast": [True, False, True],
        "dpm_adaptive": [True, False, True],
        "uni_pc": [False, False, True],
        "euler": [False, False, False],
        "lms": [False, False, False],
    }
    assert report["walk"]["near"] < 1e-3
    assert report["walk"]["callbacks"] == [0, 1, 2]
    assert report["walk"]["first"] > 4500
    assert report["core"]
    assert report["other"] == [True, False]
