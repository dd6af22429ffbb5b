"""How far a prompt's context moves by number type: `python -m benchmarks.text_types [--full-width]`.

A T5 encoder of Flan-UL2's make with random weights against itself in float32: at an eighth of its width and all of its
layers, or at its full width and fewer. Each type of weights stands three times: everything computed in it; norms, the
sums over layers and the projection in float32; and all of it computed in float32, as TextEncoder is loaded. Weights are
rounded from float32, or have the type already in the file, as those of a released Flan-UL2 do.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fusionframes_core.checkpoints.text_encoder_weights import compute_in_float32
from fusionframes_core.config import TextEncoderConfig
from fusionframes_core.models.text_encoder import TextEncoder
from fusionframes_core.presets import KANDINSKY_VIDEO_1_1

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
WAYS = ("all in it", "norms, sums, projection in fp32", "computed in fp32")
TOKENS, PROMPTS = 32, 4


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--full-width", action="store_true", help="4096 wide; 0.27 billion weights a layer")
    parser.add_argument("--layers", type=int, help="(default: 32, at full width 4)")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    text = replace(KANDINSKY_VIDEO_1_1.text, num_layers=arguments.layers or 32)
    if arguments.full_width:
        text = replace(text, num_layers=arguments.layers or 4)
    else:
        text = replace(text, d_model=512, d_kv=64, num_heads=8, d_ff=2048, context_dim=512)
    print(f"{text.num_layers} layers, {text.d_model} wide, on {arguments.device}")
    print("| weights | in the file | " + " | ".join(WAYS) + " |\n|" + "---|" * (len(WAYS) + 2))
    for name, dtype in TYPES.items():
        for stored in ("fp32", name):
            whole = random_encoder(text, arguments.device)
            if stored == name:
                whole = whole.to(dtype).float()
            found = errors(whole, token_ids(text, arguments.device), dtype)
            print(f"| {name} | {stored} | " + " | ".join(f"{error:.1e}" for error in found) + " |", flush=True)


def random_encoder(config: TextEncoderConfig, device: str) -> TextEncoder:
    """The same every time."""
    torch.manual_seed(0)
    return TextEncoder(config, device=device, dtype=torch.float32).eval().requires_grad_(False)


def token_ids(config: TextEncoderConfig, device: str) -> Tensor:
    """Some prompts of one length."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(2, config.vocab_size, (PROMPTS, TOKENS), generator=generator).to(device)


@torch.no_grad()
def errors(whole: TextEncoder, ids: Tensor, dtype: torch.dtype) -> tuple[float, ...]:
    """The largest difference of the context, of its largest value, in each of WAYS."""
    mask = torch.ones_like(ids, dtype=torch.bool)
    wanted = whole(ids, mask).context
    half = TextEncoder(whole.config, device="meta", dtype=dtype).eval()
    half.load_state_dict({name: value.to(dtype) for name, value in whole.state_dict().items()}, assign=True)
    sums = half(ids, mask).context
    plain: Any = half.t5
    hooks = [plain.block[0]._forward_pre_hooks, plain.final_layer_norm._forward_hooks]
    kept = [dict(found) for found in hooks]
    for found in hooks:
        found.clear()
    everything = half.norm(half.projection(half.states(ids, mask)))
    for found, before in zip(hooks, kept, strict=True):
        found.update(before)
    compute_in_float32(half)
    return tuple(relative(found, wanted) for found in (everything, sums, half(ids, mask).context))


def relative(found: Tensor, wanted: Tensor) -> float:
    """The largest difference, of the largest value."""
    return ((found.float() - wanted).abs().max() / wanted.abs().max()).item()


if __name__ == "__main__":
    main()
