"""What the nodes cost beside core: one process, the same work by turns, processor time and the most that tensors hold.

Run by test_overhead.py in ComfyUI's interpreter: python overhead.py PACK_FOLDER REPEATS STAGE ...; prints JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import inside

FOLDER, REPEATS, STAGES = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
pack = inside.start(FOLDER)

import torch  # noqa: E402  (ComfyUI reads its arguments before it imports torch)

PROMPT, SEED = "a large red circle moving right", 3
Work = Callable[[], Any]


def works() -> dict[str, tuple[Work, Work]]:
    """Stage → (by the nodes, by core), the same work on the same weights in fp32."""
    host = pack("nodes.host")
    nodes = {node.__name__: node for node in pack("nodes").NODES}
    core = pack("fusionframes_core.pipeline").FusionFramesPipeline.from_pretrained("tiny")
    keyframe, interpolation, clip, vae, _ = host.load_parts("tiny", "fp32")
    how = {"seed": SEED, "sampler": "record", "scheduler": "record"}
    text, seen = host.encode(clip, PROMPT), core.encode_text([PROMPT])
    size = {"width": 64, "height": 64, "num_frames": 16}
    first = core.sample_keyframes(seen, num_frames=16, seed=SEED, steps=2)
    video = core.interpolate(first, seed=SEED, steps=1, guidance=0.25)
    long = torch.cat([video] * 4, dim=2)[:, :, :241]

    def latent(samples: torch.Tensor) -> dict[str, Any]:
        return {"samples": samples, "fps": 2.0}

    def sample() -> Any:
        return nodes["SampleKeyframes"].execute(keyframe, text, **size, steps=4, cfg=3.0, **how).args[0]["samples"]

    def between(frames: torch.Tensor, cfg: float) -> Any:
        asked = {"passes": 1, "skip_frames": 3, "perturbation": 0, "loop": False, "steps": 4, "cfg": cfg}
        return nodes["Interpolate"].execute(interpolation, latent(frames), **asked, **how).args[0]["samples"]

    def decode(latents: torch.Tensor) -> Any:
        asked = {"temporal": True, "fps": 8.0, "chunk": 16, "overlap": 4}
        return nodes["Decode"].execute(vae, latent(latents), **asked).args[1]

    def whole() -> Any:
        nodes["EncodeText"].execute(clip, PROMPT)
        return decode(between(sample(), 1.25))

    def core_whole() -> Any:
        core.encode_text([PROMPT])
        return core.decode(core_between(core_sample(), 0.25))

    def core_sample() -> Any:
        return core.sample_keyframes(seen, num_frames=16, seed=SEED, steps=4, guidance=2.0)

    def core_between(frames: torch.Tensor, weight: float) -> Any:
        return core.interpolate(frames, seed=SEED, steps=4, guidance=weight)

    return {
        "keyframes": (sample, core_sample),
        "interpolation": (lambda: between(first, 1.25), lambda: core_between(first, 0.25)),
        "interpolation without guidance": (lambda: between(first, 1.0), lambda: core_between(first, 0.0)),
        "decoding 16 frames": (lambda: decode(first), lambda: core.decode(first)),
        "decoding 61 frames": (lambda: decode(video), lambda: core.decode(video)),
        "decoding 241 frames": (lambda: decode(long), lambda: core.decode(long)),
        "prompt to 61 frames": (whole, core_whole),
    }


def seconds(work: Work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def held(work: Work) -> int:
    work()  # what stays by intent (caches, ComfyUI's list of loaded models) is there before the measurement
    with inside.counter() as mode:
        work()
    return mode.most


def main() -> None:
    """Print {stage: {"seconds": [[nodes, core], ...], "bytes": [nodes, core]}}."""
    report = {}
    with torch.inference_mode():
        pairs = works()
        for stage in STAGES:
            pair = pairs[stage]
            most = [held(work) for work in pair]
            report[stage] = {"bytes": most, "seconds": [[seconds(work) for work in pair] for _ in range(REPEATS)]}
    print("\n" + json.dumps(report))


main()
