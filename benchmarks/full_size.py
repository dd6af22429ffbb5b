"""The full-size keyframe U-Net with random weights: written to a file, loaded from it, and stepped once.

`python -m benchmarks.full_size FILE.safetensors [--frames 15] [--size 256] [--dtype bf16]` tells the time of each part
and the process's peak memory beside the file's size. The file has the official names of 1.0, in 16 bits (8.3 GB).
"""

from __future__ import annotations

import argparse
import json
import struct
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import CLEAR_REFS, status_mb
from fusionframes_core.checkpoints.component import build
from fusionframes_core.checkpoints.names import to_official
from fusionframes_core.checkpoints.open_model import load_weights
from fusionframes_core.cli.arguments import DTYPES
from fusionframes_core.models.casting import compute_dtype, operations_for
from fusionframes_core.models.unet.keyframe_unet import frame_positions
from fusionframes_core.models.unet.unet import KeyframeCondition
from fusionframes_core.presets import KANDINSKY_VIDEO_1_0

CONFIG = KANDINSKY_VIDEO_1_0.keyframe
TOKENS = 128
BLOCK = 2**24  # random numbers that are drawn once and used over and over


def write_random(path: Path) -> None:
    """Random weights of the size that keeps activations in range, under official names, one tensor at a time."""
    shapes = {name: tuple(value.shape) for name, value in build(CONFIG, device="meta").state_dict().items()}
    official = to_official(shapes, "keyframe", "1.0")
    header: dict[str, Any] = {}
    offset = 0
    for name, shape in official.items():
        size = 2 * torch.Size(shape).numel()
        header[f"unet.{name}"] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    block = torch.randn(BLOCK)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for shape in official.values():
            fan_in = max(torch.Size(shape[1:]).numel(), 1) if len(shape) > 1 else 2500
            left = torch.Size(shape).numel()
            numbers = (block[:left] * fan_in**-0.5).to(torch.bfloat16).view(torch.int16).numpy()
            while left > 0:
                file.write(numbers[:left].data)
                left -= BLOCK


@torch.inference_mode()
def run(path: Path, frames: int, size: int, dtype: torch.dtype) -> dict[str, float]:
    """Seconds and MB of loading and of one step."""
    before = status_mb("VmRSS")
    CLEAR_REFS.write_text("5")  # forget the peak so far
    start = time.perf_counter()
    unet = build(CONFIG, device="meta", operations=operations_for(dtype))
    load_weights(unet, path, "cpu", dtype)
    loaded, after = time.perf_counter() - start, status_mb("VmHWM") - before
    kind = compute_dtype(unet)
    latents = torch.randn(1, 4, frames, size // 8, size // 8, dtype=kind)
    mask = (torch.arange(TOKENS) < 20)[None]
    context = torch.randn(1, TOKENS, CONFIG.context_dim, dtype=kind) * mask[..., None]
    positions = frame_positions("spread", frames)[None]
    start = time.perf_counter()
    out = unet(latents, torch.tensor([980]), KeyframeCondition(context, mask, positions))
    stepped = time.perf_counter() - start
    assert torch.isfinite(out).all()
    return {
        "file MB": path.stat().st_size / 1e6,
        "seconds to load": loaded,
        "MB above the start, after loading": after,
        "seconds of the step": stepped,
        "MB above the start, peak": status_mb("VmHWM") - before,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.full_size", description="The 4.14 B keyframe U-Net.")
    parser.add_argument("file", type=Path, help="written if it does not exist")
    parser.add_argument("--frames", type=int, default=KANDINSKY_VIDEO_1_0.num_frames)
    parser.add_argument("--size", type=int, default=256, help="height and width in pixels")
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    options = parser.parse_args()
    torch.manual_seed(0)
    if not options.file.exists():
        write_random(options.file)
    for name, value in run(options.file, options.frames, options.size, DTYPES[options.dtype]).items():
        print(f"{name}: {value:.1f}")


if __name__ == "__main__":
    main()
