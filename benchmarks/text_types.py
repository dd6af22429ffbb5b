"""How far a prompt's context moves by number type: `python -m benchmarks.text_types`.

A T5 encoder of Flan-UL2's make at an eighth of its width, with random weights, against itself in float32. Each type
stands once with the projection and its norm in that type and once with both in float32, as TextEncoder has them.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch
from torch import Tensor

from fusionframes_core.models.text_encoder import TextContext, TextEncoder
from fusionframes_core.presets import KANDINSKY_VIDEO_1_1

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
TOKENS = 32


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--layers", type=int, default=32)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    text = replace(
        KANDINSKY_VIDEO_1_1.text,
        d_model=512,
        d_kv=64,
        num_heads=8,
        d_ff=2048,
        num_layers=arguments.layers,
        context_dim=512,
    )
    whole = TextEncoder(text, device=arguments.device, dtype=torch.float32).eval().requires_grad_(False)
    ids = torch.randint(2, text.vocab_size, (4, TOKENS), device=arguments.device)
    print("| type of T5 | projection and norm in it | projection and norm in fp32 |\n|---|---|---|")
    for name, dtype in TYPES.items():
        print(f"| {name} | " + " | ".join(f"{error:.1e}" for error in errors(whole, ids, dtype)) + " |")


@torch.no_grad()
def errors(whole: TextEncoder, ids: Tensor, dtype: torch.dtype) -> tuple[float, float]:
    """The largest difference of the context, of its largest value: all in `dtype`, and T5 alone in it."""
    mask = torch.ones_like(ids, dtype=torch.bool)
    wanted = whole(ids, mask).context
    half = TextEncoder(whole.config, device=ids.device, dtype=dtype).eval()
    half.load_state_dict(whole.state_dict())
    states = half.states(ids, mask)
    rounded = half.norm(half.projection(states))
    for name in ("projection", "norm"):
        getattr(half, name).float().load_state_dict(getattr(whole, name).state_dict())
    kept: TextContext = half.project(states, mask)
    return relative(rounded, wanted), relative(kept.context, wanted)


def relative(found: Tensor, wanted: Tensor) -> float:
    """The largest difference, of the largest value."""
    return ((found.float() - wanted).abs().max() / wanted.abs().max()).item()


if __name__ == "__main__":
    main()
