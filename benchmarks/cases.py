"""What is compared with what. Every input is random and every weight fresh: only time and memory are of interest."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import Case, Sides, Work
from benchmarks.official import official_cases
from fusionframes_core.models.movq.chunked_decode import decode_chunked
from fusionframes_core.models.movq.movq import MoVQ
from fusionframes_core.models.movq.movq_temporal import DECODERS
from fusionframes_core.models.unet.temporal_layers import TEMPORAL_BLOCKS
from fusionframes_core.models.unet.unet import KeyframeCondition, UNet
from fusionframes_core.presets import TINY


def explicit_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(Q·Kᵀ / √d)·V written out, as the official code does; (B, heads, N, d)."""
    scores = torch.einsum("bhnd,bhmd->bhnm", query, key) * query.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return torch.einsum("bhnm,bhmd->bhnd", scores.softmax(-1), value)


def attention(small: bool, batch: int, queries: int, keys: int, masked: bool) -> Sides:
    """Heads of the official keyframe U-Net's second level: 12 of 64 channels."""
    heads, width = (2, 16) if small else (12, 64)
    batch, queries = (2, min(queries, 16)) if small else (batch, queries)
    query = torch.randn(batch, heads, queries, width)
    key, value = torch.randn(2, batch, heads, keys, width)
    mask = (torch.arange(keys) < keys // 3).view(1, 1, 1, keys) if masked else None
    return (
        lambda: F.scaled_dot_product_attention(query, key, value, attn_mask=mask),
        lambda: explicit_attention(query, key, value, mask),
    )


def decode_long(small: bool, decoder: str) -> Sides:
    """241 frames (two interpolation passes): chunks of 16 against all at once."""
    movq = MoVQ(replace(TINY.movq, decoder=decoder)).eval()
    latents = torch.randn(1, TINY.movq.latent_channels, 24 if small else 241, 8, 8).clamp(-1, 1)
    return lambda: decode_chunked(movq, latents), lambda: movq.decode(latents)


def temporal_conditioning(small: bool, name: str) -> Sides:
    """One forward of the tiny keyframe U-Net with a temporal conditioning, and of its text-to-image U-Net."""
    return keyframe_forward(small, name), keyframe_forward(small, "none")


def keyframe_forward(small: bool, temporal: str) -> Work:
    frames = 4 if small else TINY.num_frames
    unet = UNet(replace(TINY.keyframe, temporal=temporal)).eval()
    latents = torch.randn(1, 4, frames, 8, 8)
    condition = KeyframeCondition(
        context=torch.randn(1, TINY.text.max_tokens, TINY.text.context_dim),
        mask=torch.ones(1, TINY.text.max_tokens, dtype=torch.bool),
        positions=torch.arange(frames, dtype=torch.float32)[None],
    )
    return lambda: unet(latents, torch.tensor([500]), condition)


def temporal_decoder(small: bool, name: str) -> Sides:
    """16 frames through a decoder of Table 3, and through the image decoder."""
    latents = torch.randn(1, TINY.movq.latent_channels, 4 if small else 16, 8, 8).clamp(-1, 1)
    movq, image = (MoVQ(replace(TINY.movq, decoder=decoder)).eval() for decoder in (name, "image"))
    return lambda: movq.decode(latents), lambda: image.decode(latents)


SDPA, EXPLICIT = "scaled_dot_product_attention", "explicit einsum"

CASES = (
    Case(
        "spatial attention, 1024 tokens",
        SDPA,
        EXPLICIT,
        partial(attention, batch=4, queries=1024, keys=1024, masked=False),
        1e-4,
        True,
    ),
    Case(
        "temporal attention, 16 frames",
        SDPA,
        EXPLICIT,
        partial(attention, batch=1024, queries=16, keys=16, masked=False),
        1e-4,
        True,
    ),
    Case(
        "text attention, 128 tokens, masked",
        SDPA,
        EXPLICIT,
        partial(attention, batch=4, queries=1024, keys=128, masked=True),
        1e-4,
        True,
    ),
    Case(
        "decode 241 frames, image decoder",
        "chunks of 16",
        "all at once",
        partial(decode_long, decoder="image"),
        1e-4,
        True,
    ),
    Case(
        "decode 241 frames, conv3_attn",
        "chunks of 16",
        "all at once",
        partial(decode_long, decoder="conv3_attn"),
        None,
        True,
    ),
    *(
        Case(f"keyframe U-Net, {name}", name, "none", partial(temporal_conditioning, name=name), None)
        for name in TEMPORAL_BLOCKS
        if name != "none"
    ),
    *(
        Case(f"decoder, {name}", name, "image", partial(temporal_decoder, name=name), None)
        for name in DECODERS
        if name != "image"
    ),
    *official_cases(),
)
