"""Inside ComfyUI: how often the text is projected in a sampling, and what stays of it; prints JSON.

Run by test_host_memo.py in ComfyUI's interpreter: python host_memo.py PACK_FOLDER.
"""

from __future__ import annotations

import gc
import json
import sys
from typing import Any

import inside

pack = inside.start(sys.argv[1])

import comfy.hooks  # noqa: E402  (ComfyUI reads its arguments before it imports torch)
import torch  # noqa: E402

STEPS = 3


def main() -> None:
    """Both U-Nets, with a memo and without, then with a LoRA and with a hook that changes the weights."""
    host, networks = pack("nodes.host"), pack("nodes.host.model.networks")
    nodes = {node.__name__: node for node in pack("nodes").NODES}
    keyframe, interpolation, clip, _, _ = host.load_parts("tiny", "fp32")
    text = host.encode(clip, "a large red circle moving right")
    how = {"seed": 3, "sampler": "record", "scheduler": "record", "steps": STEPS}
    size = {"width": 64, "height": 64, "num_frames": 5}

    def sample(model: Any, seen: Any) -> Any:
        return nodes["SampleKeyframes"].execute(model, seen, **size, cfg=3.0, **how).args[0]["samples"]

    def between(frames: Any) -> Any:
        asked = {"passes": 1, "skip_frames": 3, "perturbation": 0, "loop": False, "cfg": 1.25}
        latent = {"samples": frames, "fps": 2.0}
        return nodes["Interpolate"].execute(interpolation, latent, **asked, **how).args[0]["samples"]

    calls = []
    kinds = pack("fusionframes_core.models.unet.unet_blocks")
    reading = (kinds.CrossAttentionBlock, kinds.AttentionPooling)

    def watch(model: Any) -> int:
        layers = [part.attention.to_key for part in model.model.diffusion_model.modules() if isinstance(part, reading)]
        for layer in layers:
            layer.register_forward_hook(lambda *_: calls.append(1))
        return len(layers)

    def counted(work: Any, *arguments: Any) -> tuple[Any, int]:
        calls.clear()
        return work(*arguments), len(calls)

    def kept(model: Any) -> int:
        gc.collect()
        return len(model.model.diffusion_model.memos._kept)

    lora = keyframe.clone()
    name = next(name for name in lora.model.state_dict() if name.endswith("attention.to_key.weight"))
    changed = torch.randn_like(lora.model.state_dict()[name])
    lora.add_patches({name: (changed,)}, 1.0)
    group = comfy.hooks.create_hook_model_as_lora({name: changed}, None, 1.0, 0.0)
    hooked = comfy.hooks.set_hooks_for_conditioning(text, group)

    layers = [watch(keyframe), watch(interpolation)]
    frames, first = counted(sample, keyframe, text)
    again, second = counted(sample, keyframe, text)
    video, third = counted(between, frames)
    patched, fourth = counted(sample, lora, text)
    _, fifth = counted(sample, keyframe, hooked)
    report = {"layers": layers, "calls": [first, second, third, fourth], "hooked": fifth}
    report["kept"] = [kept(keyframe), kept(interpolation)]
    networks.Memos.of = lambda *_: None
    plain, without = counted(sample, keyframe, text)
    pairs = (frames, plain), (again, plain), (video, between(frames)), (patched, sample(lora, text))
    report |= {
        "without": without,
        "apart": [float((left - right).abs().max() / right.abs().max()) for left, right in pairs],
    }
    report["lora"] = float((patched - plain).abs().max())
    print(json.dumps(report))


with torch.inference_mode():
    main()
