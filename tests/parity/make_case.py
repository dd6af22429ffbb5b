"""Writes a parity case of 1.1's interpolation U-Net from the official code, which KANDINSKY_VIDEO_PATH names:

`python -m tests.parity.make_case FILE.safetensors [--extra] [--channels 4] [--groups 2] [--head-dim 4] ...`

`--extra` is the official `add_new_temporal_params`; more/kv11_interpolation_extra.safetensors was made with
`--extra` alone. The official shortcuts run the convolution after doubling twice and the one after halving never.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.official_stages import official_module

NOTE = "1.1 interpolation U-Net, one forward, every parameter random"
TOKENS = 5


def arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Of the official constructor."""
    return {
        "model_channels": options.channels,
        "init_channels": options.channels,
        "num_channels": 20,
        "out_channels": 12,
        "time_embed_dim": 2 * options.channels,
        "context_dim": 2 * options.channels,
        "groups": options.groups,
        "head_dim": options.head_dim,
        "dim_mult": [1, 2],
        "num_blocks": [2, 2],
        "add_cross_attention": [False, True],
        "add_self_attention": [False, True],
        "temporal_type": "conv1D",
        "add_new_temporal_params": options.extra,
        "add_temporal_attention": True,
    }


@torch.no_grad()
def make(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The constructor's arguments and all tensors of the case."""
    torch.manual_seed(options.seed)
    config = arguments(options)
    unet = official_module("1.1", "model.unet_interpolation").UNet(time_downsample=(False, False), **config).eval()
    for parameter in unet.parameters():
        if not parameter.any():
            parameter.fill_(0.3) if parameter.numel() == 1 else parameter.normal_(0, 0.05)
    groups, side = options.frames, options.side
    given = {
        "x": torch.randn(groups, 20, side, side),
        "time": torch.full((groups,), 437.0),
        "context": torch.randn(1, TOKENS, config["context_dim"]).repeat(groups, 1, 1),
        "context_mask": (torch.arange(TOKENS) < 3)[None].repeat(groups, 1),
        "perturbation_time": torch.full((groups,), 40.0),
        "skip_frames": torch.full((groups,), 3),
    }
    named = {"num_predicted_groups": groups, "temporal_mask": torch.ones(groups)}
    out = unet(**given, **named)
    tensors = {f"weights/{name}": value for name, value in unet.state_dict().items()}
    tensors |= {f"in/{name}": value for name, value in given.items()} | {"out/v": out}
    return config, {name: value.contiguous() for name, value in tensors.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.parity.make_case", description=NOTE)
    parser.add_argument("file", type=Path, help="its name begins with kv11_")
    parser.add_argument("--extra", action="store_true", help="with the official add_new_temporal_params")
    sizes = {"channels": 4, "groups": 2, "head-dim": 4, "frames": 3, "side": 4, "seed": 0}
    for name, value in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    config, tensors = make(options)
    save_file(tensors, options.file, {"config": json.dumps(config), "note": NOTE})
    print(f"{options.file}: {options.file.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
