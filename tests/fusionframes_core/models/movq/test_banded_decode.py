"""The law of bands: a decoder in bands gives the pixels of the whole decoder, and takes less memory."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import pytest
import torch

from benchmarks.traffic import TrafficCounter
from fusionframes_core.kernels.kernel_choice import fused_kernels
from fusionframes_core.models.layout import channels_last, fold_frames
from fusionframes_core.models.movq.banded_decode import BandedDecoder, BandNorm, bands_of, by_bands
from fusionframes_core.models.movq.chunked_decode import decode_chunked
from fusionframes_core.models.movq.movq import DECODERS, MoVQ
from fusionframes_core.models.movq.movq_blocks import FrameContext
from fusionframes_core.presets import TINY
from tests.helpers.inside import counter
from tests.helpers.movq_cases import OFFICIAL, random_latents, random_movq

OFFICIAL_LIKE = {"channels": 8, "channel_mult": (1, 2, 2, 4), "num_res_blocks": 2, "attention_levels": (3,)}
OFFICIAL_LIKE |= {"groups": 8, "patch_size": 1, "latent_activation": "none"}


def apart(movq: MoVQ, portion: int, temporal: bool = True) -> float:
    """Largest difference of pixels over the largest pixel."""
    latents = random_latents(batch=2, frames=3)
    with torch.no_grad():
        whole = movq.decode(latents, temporal)
    banded = BandedDecoder(movq, temporal, portion).decode(latents)
    assert banded.shape == whole.shape
    return ((banded - whole).abs().max() / whole.abs().max()).item()


@pytest.mark.parametrize("temporal", [True, False])
@pytest.mark.parametrize("decoder", DECODERS)
def test_bands_change_nothing(decoder: str, temporal: bool) -> None:
    movq = random_movq(decoder=decoder)
    for portion in (1, 3000, 5000, 2**20):
        assert apart(movq, portion, temporal) < 1e-5


@pytest.mark.parametrize("attention_norm", ["first_frame", "per_frame"])
@pytest.mark.parametrize("merge", ["convex", "residual"])
def test_official_architecture_with_attention(attention_norm: str, merge: str) -> None:
    changes = OFFICIAL_LIKE | {"decoder": "conv3_attn", "attention_norm": attention_norm, "temporal_merge": merge}
    assert apart(random_movq(**changes), portion=5000) < 1e-5


def test_attention_above_the_lowest_level_runs_whole() -> None:
    assert apart(random_movq(decoder="conv1_attn", attention_levels=(0, 1)), portion=3000) < 1e-5


def test_tiny_model_in_chunks() -> None:
    movq = MoVQ(TINY.movq).eval()
    latents = torch.randn(1, 4, 20, 8, 8).clamp(-1, 1)
    banded = decode_chunked(BandedDecoder(movq, portion=20000), latents)
    torch.testing.assert_close(banded, decode_chunked(movq, latents), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("decoder", "most"), [("image", 0.6), ("conv3_attn", 0.6)])
def test_bands_take_less_memory(decoder: str, most: float) -> None:
    config = dataclasses.replace(OFFICIAL, decoder=decoder)
    movq = MoVQ(config, device="meta", dtype=torch.bfloat16)
    latents = torch.empty(1, 4, 4, 64, 64, device="meta", dtype=torch.bfloat16)
    held = []
    for decode in (movq.decode, BandedDecoder(movq).decode):
        with torch.no_grad(), counter() as count:
            decode(latents)
        held.append(count.most)
    print(f"{decoder}: whole {held[0] / 1e9:.2f} GB, in bands {held[1] / 1e9:.2f} GB")
    assert held[1] < most * held[0]


def test_work_sees_the_rows_as_they_were() -> None:
    x = torch.arange(12.0).view(1, 1, 6, 2)
    seen = []

    def work(rows: torch.Tensor, first: int) -> torch.Tensor:
        seen.append((first, rows[0, 0, :, 0].tolist()))
        return rows * 0

    by_bands(work, x, 4, x)
    assert seen == [(0, [0, 2, 4]), (1, [2, 4, 6, 8]), (3, [6, 8, 10])]
    assert not x.any()


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("decoder", DECODERS)
@torch.no_grad()
def test_every_step_keeps_channels_last(decoder: str, fused: bool) -> None:
    """As on a GPU, whose convolutions would copy what lies otherwise: meta tensors, laid out by the counter."""
    movq = channels_last(random_movq(decoder=decoder).to("meta"))
    banded = BandedDecoder(movq, portion=3000)
    latents = fold_frames(random_latents(batch=1, frames=3)).to("meta", memory_format=torch.channels_last)
    context = FrameContext(latents, num_frames=3, temporal=True)
    kinds = set()
    with fused_kernels(fused), TrafficCounter():
        x = movq.decoder.conv_in(context.latents)
        for step in banded._steps():
            x = step(x.contiguous(memory_format=torch.channels_last), context)
            assert x.is_contiguous(memory_format=torch.channels_last), step
            kinds.add(type(getattr(step, "args", [step])[0]).__name__)
        norm = BandNorm(movq.decoder.norm_out, x, context, banded.portion)
        assert norm(x[:, :, 1:3], 1).is_contiguous(memory_format=torch.channels_last)
    assert {"Upsample", "AttentionBlock"} < kinds


@torch.no_grad()
def test_convolutions_in_bands_copy_nothing_into_another_layout() -> None:
    """With the fused kernels, counted on meta tensors."""
    movq = channels_last(MoVQ(dataclasses.replace(OFFICIAL, decoder="conv3_attn"), device="meta"))
    latents = torch.empty(1, 4, 4, 16, 16, device="meta")
    asked: Counter[str] = Counter()

    class Convolutions(TrafficCounter):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            before = self.bytes["layout"]
            out = super().__torch_dispatch__(func, types, args, kwargs)
            asked[func.overloadpacket] += self.bytes["layout"] - before
            return out

    with fused_kernels(True), Convolutions() as count:
        BandedDecoder(movq, portion=2**17).decode(latents)
    assert count.kernels["convolution"] > 100
    assert asked[torch.ops.aten.convolution] == 0


def test_bands_cover_every_row_once() -> None:
    for height in (1, 2, 7, 64):
        for portion in (1, 6, 13, 100):
            bands = bands_of(torch.zeros(1, 2, height, 3), portion)
            assert [row for start, stop in bands for row in range(start, stop)] == list(range(height))
            assert all(stop - start <= max(portion // 6, 1) for start, stop in bands)
