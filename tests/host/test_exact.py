"""In ComfyUI, as the official pipelines: the recorded ones in number, and what a rehearsal of the real files does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from benchmarks.rehearsal_comfyui import ComfyUI, run_workflows
from benchmarks.rehearsal_files import VERSIONS, link_for_comfyui, scaled, write_files
from benchmarks.rehearsal_runs import Short
from tests.helpers.host_graphs import Untouched
from tests.helpers.host_media import read_images
from tests.helpers.host_server import Server, run_inside
from tests.helpers.parity_cases import relative_error
from tests.helpers.pipeline_cases import CASES, PipelineCase, in_our_layout, write_official_files

pytestmark = [pytest.mark.host, pytest.mark.slow]

SEEDED = [case for case in CASES if case.is_seeded]
LATENTS = {"1.0": 1e-4, "1.1": 1e-2}  # 1.1: of its drawn first image a few numbers are another level of 255


@pytest.fixture
def installed(server: Server) -> Iterator[Any]:
    """A function that puts a case's official files into ComfyUI's folders and gives the name of its model."""
    made: list[Path] = []

    def install(case: PipelineCase) -> str:
        folder = server.base / "models" / "diffusion_models" / case.name
        write_official_files(case.networks, folder)
        made.append(folder)
        return case.name

    yield install
    for folder in made:
        shutil.rmtree(folder)


@pytest.mark.parametrize("case", SEEDED, ids=lambda case: case.name)
def test_a_graph_of_our_nodes_is_the_official_pipeline(server: Server, installed: Any, case: PipelineCase) -> None:
    """Nothing is touched but the prompt, the size, and the two choices in which ours is not the official way."""
    name, size = installed(case), {key: case.call[key] for key in ("width", "height")}
    graph = Untouched(server)
    loaded = graph.node("LoadModel", model_name=name, precision="fp32")
    prompt = case.call.get("text", case.call.get("prompt"))
    text = graph.node("EncodeText", clip=loaded[2], prompt=prompt)[0]
    inputs = {"model": loaded[0], "text": text, **size}
    if case.version == "1.1":
        image = graph.node("DrawFirstFrame", **inputs, vae=loaded[4])[0]
        keyframes = graph.node("ImageToVideo", **inputs, vae=loaded[4], image=image, image_fit="official")[0]
    else:
        keyframes = graph.node("SampleKeyframes", **inputs)[0]
    latents = graph.node("Interpolate", model=loaded[1], latents=keyframes, text=text)[0]
    images = graph.node("Decode", vae=loaded[3], latents=latents, windows="official")[1]
    graph.add("SaveLatent", samples=latents, filename_prefix=f"exact/{name}")
    graph.add("SaveImage", images=images, filename_prefix=f"exact/{name}")
    entry = server.succeed(graph.prompt)
    (file,) = server.saved_files(entry, "latents")
    error = relative_error(load_file(file)["latent_tensor"], in_our_layout(case.outputs["latents"]))
    found = read_images(server.saved_files(entry)).astype(int)
    gaps = np.abs(found - case.outputs["frames"].numpy()[..., ::-1].astype(int))
    print(f"{name}: latents {error:.1e}, {(gaps > 0).mean():.4f} of all pixel values differ, by {gaps.max()} at most")
    assert error <= LATENTS[case.version]
    assert gaps.max() <= 1


VAE_TYPES = """
import json, sys
import inside
pack = inside.start(sys.argv.pop(1))
import comfy.model_management as management
load = pack("nodes.host").load_parts
report = {}
for fp16 in (True, False):
    for bf16 in (True, False):
        management.should_use_fp16 = lambda *given, **named: fp16
        management.should_use_bf16 = lambda *given, **named: bf16
        found = load("tiny", "auto")[3]
        report[f"{fp16} {bf16}"] = [str(found.vae_dtype), str(next(found.first_stage_model.parameters()).dtype)]
report["asked"] = [str(load("tiny", name)[3].vae_dtype) for name in ("fp16", "bf16", "fp32")]
print("\\n" + json.dumps(report))
"""


def test_the_vae_is_bf16_then_fp32_and_fp16_only_when_asked(comfyui: Any, root: Path) -> None:
    """Whatever else the device has: the official code decodes in float32."""
    report = json.loads(run_inside(comfyui, "-c", VAE_TYPES, str(root))[0].splitlines()[-1])
    bf16, fp32 = (["torch." + name] * 2 for name in ("bfloat16", "float32"))
    assert report == {
        "True True": bf16,
        "True False": fp32,
        "False True": bf16,
        "False False": fp32,
        "asked": ["torch.float16", "torch.bfloat16", "torch.float32"],
    }


# The tiny text encoder's file in one type after the other, loaded as "auto" and as asked for.
TEXT_TYPES = """
import dataclasses, json, sys, tempfile
from pathlib import Path
import inside
pack = inside.start(sys.argv.pop(1))
import torch
from safetensors.torch import load_file, save_file
loaders, weights = pack("nodes.host.model.loaders"), pack("fusionframes_core.checkpoints.weights_file")
text = pack("fusionframes_core.checkpoints.open_model").open_model("tiny").components["text_encoder"]
(file, names), = text.sources
report = {}
for kind in (torch.float16, torch.bfloat16, torch.float32):
    path = Path(tempfile.mkdtemp()) / "text_encoder.safetensors"
    save_file({name: tensor.to(kind) for name, tensor in load_file(file.path).items()}, path)
    copy = dataclasses.replace(text, sources=((weights.open_weights(path), names),))
    for precision in ("auto", "bf16"):
        layer = loaders.load_clip(copy, precision).cond_stage_model.t5.encoder.block[0].layer[0]
        report[f"{kind} {precision}"] = str(layer.SelfAttention.q.weight.dtype)
report["own"] = str(loaders.management.text_encoder_dtype(loaders.management.text_encoder_device()))
print("\\n" + json.dumps(report))
"""


def test_a_text_encoder_keeps_the_16_bits_of_its_file(comfyui: Any, root: Path) -> None:
    """So that nothing is copied: it computes in float32 all the same. ComfyUI's choice is for files in 32 bits."""
    report = json.loads(run_inside(comfyui, "-c", TEXT_TYPES, str(root))[0].splitlines()[-1])
    own = report.pop("own")
    kinds = {"torch.float16": "torch.float16", "torch.bfloat16": "torch.bfloat16", "torch.float32": own}
    assert {key.removesuffix(" auto"): found for key, found in report.items() if key.endswith("auto")} == kinds
    assert {found for key, found in report.items() if key.endswith("bf16")} == {"torch.bfloat16"}


def test_a_rehearsal_runs_a_shipped_workflow(comfyui: Any, tmp_path: Path) -> None:
    """With files of the official names where users put them, outside ComfyUI's own folder."""
    config = scaled(VERSIONS["1.0"], 0.05)
    write_files(config, tmp_path / "files")
    link_for_comfyui(tmp_path / "files", "1.0", tmp_path / "models")
    short = Short(config.size, steps=1, frames=2)
    for name, run in run_workflows(ComfyUI(*comfyui), tmp_path / "models", "1.0", short):
        print(name, f"{run.memory / 1e9:.1f} GB, {run.seconds:.0f} s")
        assert run.succeeded, run.said
        assert run.seconds > 0
