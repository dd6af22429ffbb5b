"""In ComfyUI a kernel is turned once, not in every step, and what ComfyUI lends is given back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.host_server import run_inside

pytestmark = [pytest.mark.host, pytest.mark.slow]

INSIDE = """
import json, sys
import inside

pack = inside.start(sys.argv[1])
import comfy.ops, torch

hosted = pack("nodes.host.model.operations").hosted(comfy.ops.manual_cast)
layers = pack("fusionframes_core.models.layers")
choice = pack("fusionframes_core.kernels.kernel_choice")
LAST = torch.channels_last
given_back = []
own = comfy.ops.uncast_bias_weight
comfy.ops.uncast_bias_weight = lambda layer, *how: (given_back.append(layer), own(layer, *how))[1]

def made(device):
    layer = hosted.Conv2d(16, 32, 3, padding=1, device=device, dtype=torch.float32)
    return layer.requires_grad_(False)

x = torch.empty(2, 16, 4, 4, device="meta").to(memory_format=LAST)
report = {}
with torch.inference_mode(), choice.fused_kernels(True):
    on_gpu, seen = made("meta"), []
    inner = on_gpu._conv_forward
    on_gpu._conv_forward = lambda x, weight, bias: (seen.append(weight), inner(x, weight, bias))[1]
    out, bias = layers.without_bias(on_gpu, x)
    first = on_gpu.weight.data
    layers.without_bias(on_gpu, x)
    report["turned"] = all(weight.is_contiguous(memory_format=LAST) for weight in seen)
    report["shapes"] = [list(out.shape), list(bias.shape)]
    report["once"] = on_gpu.weight.untyped_storage()._cdata == first.untyped_storage()._cdata
    report["given back"] = given_back == [on_gpu, on_gpu]
    report["own bias"] = bias is on_gpu.bias

    offloaded = made("cpu")
    offloaded.weight.data = torch.randn(32, 16, 3, 3).to(memory_format=LAST)
    expected = offloaded.weight.data.clone()
    _, bias = layers.without_bias(offloaded, x)
    report["as in the buffers"] = offloaded.weight.is_contiguous() and torch.equal(offloaded.weight, expected)
    report["bias there"] = str(bias.device)

    dynamic = made("meta")
    dynamic._v = None
    before = dynamic.weight.data.stride()
    pack("nodes.host.model.operations").lay_out(dynamic, x)
    report["left alone"] = dynamic.weight.stride() == before
    given_back.clear()
    pending = pack("fusionframes_core.models.pending_bias")
    matrix = hosted.Linear(16, 16, device="meta", dtype=torch.float32).requires_grad_(False)
    sum_, bias = pending.add_product(x.clone(), matrix, x)
    report["product"] = given_back == [matrix] and bias is not matrix.bias and list(bias.shape) == [16]
    in_8_bits = pack("nodes.host.model.operations").hosted(comfy.ops.fp8_ops).Linear
    report["in 8 bits"] = not issubclass(in_8_bits, layers.FastLinear)
    norm = hosted.GroupNorm(4, 16, device="cpu", dtype=torch.float32).requires_grad_(False)
    given_back.clear()
    weight, _ = norm.weights_for(x)
    report["norm"] = [str(weight.device), given_back == [norm]]
print(json.dumps(report))
"""


def test_kernels_are_turned_once(comfyui: Any, root: Path) -> None:
    report = json.loads(run_inside(comfyui, "-c", INSIDE, str(root))[0].splitlines()[-1])
    assert report.pop("shapes") == [[2, 32, 4, 4], [32]]
    assert report.pop("bias there") == "meta"
    assert report.pop("norm") == ["meta", True]
    places = {"turned", "as in the buffers", "left alone"}
    assert set(report) == places | {"once", "given back", "own bias", "product", "in 8 bits"}
    assert all(report.values()), report
