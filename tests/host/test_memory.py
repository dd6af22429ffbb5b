"""Weights come and go by ComfyUI's own management: checked without a GPU, on a device that holds no memory.

With one byte of memory to spare ComfyUI leaves every weight where it is and its layers fetch them one by one. The meta
device stands for the GPU: a layer that does not fetch its weights fails there, since its own are on the CPU.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.host, pytest.mark.slow]

STREAM = """
import importlib, importlib.util, json, sys
folder = sys.argv.pop(1)
sys.argv += ["--cpu", "--use-pytorch-cross-attention"]
import comfy.options
comfy.options.enable_args_parsing()
import torch, nodes
name = folder.replace(".", "_x_")
spec = importlib.util.spec_from_file_location(name, folder + "/__init__.py")
sys.modules[name] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
host = importlib.import_module(name + ".nodes.host")
keyframes, interpolation, clip, vae, _ = host.load_parts("tiny", "fp16")
meta = torch.device("meta")
x, t, text = torch.empty(1, 4, 5, 8, 8, device=meta), torch.ones(1, device=meta), torch.empty(1, 24, 128, device=meta)
one = torch.ones(1, 1, device=meta)
seen = {"attention_mask": torch.ones(1, 24, device=meta)}
given = {"given": x[:, :, ::4], **dict.fromkeys(["informed", "temporal", "skip_frames", "perturbation"], one)}


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


def test_every_layer_fetches_its_weights(comfyui: Any, root: Path) -> None:
    """All four networks run on the device while all their weights stay in main memory."""
    command = [str(comfyui.python), "-c", STREAM, str(root)]
    done = subprocess.run(command, cwd=comfyui.path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert {part: found[0] for part, found in report.items()} == {part: ["cpu"] for part in report}
    assert {part: found[1] for part, found in report.items()} == dict.fromkeys(report, "meta")
    assert report["interpolation"][2] == [1, 4, 5, 8, 8]
    assert report["clip"][2] == [1, 24, 128]
    assert report["vae"][2] == [1, 3, 5, 64, 64]
