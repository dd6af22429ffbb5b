"""Inside ComfyUI: whether torch.compile sees each hosted U-Net as one graph; prints JSON.

Run by test_one_graph.py in ComfyUI's interpreter: python host_one_graph.py PACK_FOLDER.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import inside

pack = inside.start(sys.argv[1])

# ComfyUI reads its arguments before it imports torch.
from comfy_api.torch_helpers import set_torch_compile_wrapper  # noqa: E402

STEPS = 2


def main() -> None:
    """Both U-Nets as Torch Compile Model compiles them, but refusing a break, beside what they give uncompiled."""
    host = pack("nodes.host")
    nodes = {node.__name__: node for node in pack("nodes").NODES}
    keyframe, interpolation, clip, _, _ = host.load_parts("tiny", "fp32")
    text = host.encode(clip, "a large red circle moving right")
    how = {"seed": 3, "sampler": "record", "scheduler": "record", "steps": STEPS}
    size = {"width": 64, "height": 64, "num_frames": 5}

    def sample(model: Any) -> Any:
        return nodes["SampleKeyframes"].execute(model, text, **size, cfg=3.0, **how).args[0]["samples"]

    def between(model: Any, frames: Any) -> Any:
        asked = {"passes": 1, "skip_frames": 3, "perturbation": 0, "loop": False, "cfg": 1.25}
        latent = {"samples": frames, "fps": 2.0}
        return nodes["Interpolate"].execute(model, latent, **asked, **how).args[0]["samples"]

    frames = sample(keyframe)
    plain = frames, between(interpolation, frames)
    compiled: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        compiled.append(len(graph.graph.nodes))
        return graph.forward

    def compiled_as_stock(model: Any) -> Any:
        clone = model.clone()
        set_torch_compile_wrapper(model=clone, backend=backend, fullgraph=True)  # raises where a graph breaks
        return clone

    again = sample(compiled_as_stock(keyframe)), between(compiled_as_stock(interpolation), frames)
    apart = [float((left - right).abs().max()) for left, right in zip(plain, again, strict=True)]
    print(json.dumps({"operations": compiled, "apart": apart}))


main()
