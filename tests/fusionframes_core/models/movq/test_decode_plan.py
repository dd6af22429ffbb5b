"""Plans fit the memory they are given, estimates cover what tensors hold, and reach is what a decoder really sees."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from fusionframes_core.config import MoVQConfig
from fusionframes_core.models.movq import decode_plan
from fusionframes_core.models.movq.chunked_decode import decode_chunked
from fusionframes_core.models.movq.decode_plan import (
    DecodePlan,
    Room,
    decode_bytes,
    decoder_for,
    encode_bytes,
    least_bytes,
    plan_decode,
    plan_encode,
    plan_for,
    plan_windows,
    temporal_reach,
    video_bytes,
)
from fusionframes_core.models.movq.frame_chunks import decode_frames, encode_frames
from fusionframes_core.models.movq.movq import DECODERS, MoVQ
from fusionframes_core.presets import TINY
from tests.helpers.inside import counter
from tests.helpers.movq_cases import OFFICIAL, SMALL, random_movq

VIDEO = dataclasses.replace(OFFICIAL, decoder="conv3_attn")
GB = 10**9


def plan(config: MoVQConfig, free: float, frames: int = 241, side: int = 64) -> DecodePlan:
    return plan_decode(config, frames, (side, side), torch.bfloat16, Room(free * GB))


def test_an_80_gb_card_decodes_as_today() -> None:
    found = plan(VIDEO, 60)
    assert (found.chunk, found.overlap, found.banded) == (16, 4, False)
    tiny = plan_decode(TINY.movq, 61, (8, 8), torch.float32, Room(GB))
    assert (tiny.chunk, tiny.overlap, tiny.banded) == (16, 4, False)


def test_what_people_have() -> None:
    assert plan(VIDEO, 5).chunk == 4, "the target of a 12 GB card"
    banded = plan(VIDEO, 2.5)
    assert (banded.chunk, banded.banded) == (4, True)
    assert banded.bytes <= 2.5 * GB


def test_by_default_a_card_keeps_room() -> None:
    def on_a_card(free: float) -> DecodePlan:
        return plan_decode(VIDEO, 241, (64, 64), torch.bfloat16, Room.on(torch.device("cuda"), free * GB))

    assert on_a_card(11).bytes < 5 * GB, "of 12 GB"
    assert on_a_card(11).chunk == on_a_card(7).chunk == 4
    assert not on_a_card(7).banded, "a short chunk may take all"
    assert on_a_card(3).banded
    assert on_a_card(60) == plan(VIDEO, 60)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_plan_fits_and_more_memory_is_never_worse(decoder: str) -> None:
    config = dataclasses.replace(OFFICIAL, decoder=decoder, attention_norm="per_frame")
    before = None
    for free in (0.8, 1, 2, 4, 6, 10, 20, 40):
        found = plan(config, free)
        assert found.bytes <= free * GB
        assert 0 <= found.overlap < found.chunk
        if before is not None:
            assert (not found.banded, found.chunk) >= (not before.banded, before.chunk)
        before = found
    assert before is not None
    assert before.overlap == (0 if decoder == "image" else 4)


def test_a_short_video_is_one_chunk() -> None:
    assert plan(VIDEO, 60, frames=3).chunk == 3
    assert plan(VIDEO, 60, frames=1) == plan(VIDEO, 60, frames=1)
    assert plan(VIDEO, 60, frames=1).overlap == 0


def test_nothing_fits() -> None:
    words = r"free memory must be at least 0\.67 GB to decode 512x512 in bfloat16; got 0\.10 GB: free some"
    with pytest.raises(ValueError, match=words):
        plan(VIDEO, 0.1)


@pytest.mark.parametrize("side", [8, 32, 64, 128])
def test_nothing_that_fits_is_refused(side: int) -> None:
    """Of small frames one whole takes less than a band's work, of large ones more."""
    for chunk in (None, 1, 3, 16):
        least = least_bytes(VIDEO, chunk or 1, (side, side), torch.bfloat16)
        found = plan_windows(VIDEO, 61, (side, side), torch.bfloat16, Room(least), chunk)
        assert (found.chunk, found.bytes) == (chunk or 1, least)
        with pytest.raises(ValueError, match=f"at least {least / 1e9:.2f} GB to decode"):
            plan_windows(VIDEO, 61, (side, side), torch.bfloat16, Room(least - 1), chunk)


def test_memory_that_can_be_made_free_lets_chunks_be_longer() -> None:
    cuda = torch.device("cuda")
    for reachable, chunk in ((60, 16), (20, 7), (11, 4)):
        found = plan_decode(VIDEO, 241, (64, 64), torch.bfloat16, Room.on(cuda, 60 * GB, reachable * GB))
        assert found.chunk == chunk
        assert plan_decode(VIDEO, 241, (64, 64), torch.bfloat16, Room.on(cuda, found.bytes, reachable * GB)) == found


@pytest.mark.parametrize("banded", [False, True])
@pytest.mark.parametrize(("frames", "side"), [(1, 64), (4, 64), (2, 128)])
def test_estimates_cover_what_tensors_hold(
    frames: int, side: int, banded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On meta tensors torch writes attention out, with all scores; a GPU's has a block of them.
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda query, *_: torch.empty_like(query))
    movq = MoVQ(VIDEO, device="meta", dtype=torch.bfloat16)
    estimate = decode_bytes(VIDEO, frames, (side, side), torch.bfloat16, banded)
    decoder = decoder_for(movq, DecodePlan(frames, 0, banded, estimate))
    with torch.no_grad(), counter() as count:
        decoder.decode(torch.empty(1, 4, frames, side, side, device="meta", dtype=torch.bfloat16))
    print(f"{frames} frames of {side}, banded {banded}: {count.most / 1e9:.2f} of {estimate / 1e9:.2f} GB")
    assert count.most < estimate < 1.6 * count.most


@pytest.mark.parametrize("decoder", [name for name, parts in DECODERS.items() if not parts.attention])
def test_no_frame_depends_on_what_lies_beyond_the_reach(decoder: str) -> None:
    config = dataclasses.replace(SMALL, decoder=decoder, num_res_blocks=0, attention_levels=())
    reach = int(temporal_reach(config))
    movq = random_movq(decoder=decoder, num_res_blocks=0, attention_levels=()).double()
    frames = reach + 2
    latents = torch.randn(1, 4, frames, 2, 2, dtype=torch.double)
    changed = latents.clone()
    changed[:, :, 0] += 1
    with torch.no_grad():
        moved = (movq.decode(changed) - movq.decode(latents)).abs().amax((0, 1, 3, 4))
    assert moved[reach] > 0, "as far as that"
    assert moved[reach + 1] == 0, "and no farther"


def test_attention_over_time_reaches_everywhere() -> None:
    assert temporal_reach(VIDEO) == math.inf
    assert temporal_reach(dataclasses.replace(VIDEO, decoder="image")) == math.inf, "the first frame's latents"
    assert temporal_reach(dataclasses.replace(VIDEO, decoder="image", attention_norm="per_frame")) == 0


def test_a_plan_for_latents_goes_by_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    movq = random_movq(decoder="conv1_attn")
    latents = torch.randn(2, 4, 20, 4, 6)
    found = plan_for(movq, latents)
    assert (found.chunk, found.overlap, found.banded) == (16, 4, False), "a machine with memory decodes as ever"
    assert (plan_for(movq, latents, chunk=6).chunk, plan_for(movq, latents, chunk=6).overlap) == (6, 1)
    monkeypatch.setattr(decode_plan, "available_bytes", lambda device: None)
    assert plan_for(movq, latents) == found
    for_five = 2 * decode_bytes(movq.config, 5, (4, 6), torch.float32)
    monkeypatch.setattr(decode_plan, "available_bytes", lambda device: for_five)
    assert plan_for(movq, latents).chunk == 5
    assert plan_for(movq, latents, output_device=torch.device("meta")).chunk == 5
    video = 2 * video_bytes(movq.config, 20, (4, 6), torch.float32)
    assert video == torch.empty(2, 3, 20, 4 * movq.factor, 6 * movq.factor).nbytes
    for free, chunk in ((for_five + video, 5), (for_five + video - 1, 4)):
        monkeypatch.setattr(decode_plan, "available_bytes", lambda device, free=free: free)
        assert plan_for(movq, latents, output_device=latents.device).chunk == chunk, "the video takes of what is free"
    monkeypatch.setattr(decode_plan, "available_bytes", lambda device: 1000)
    with pytest.raises(ValueError, match="free memory must be at least"):
        plan_for(movq, latents)


def test_a_banded_plan_decodes() -> None:
    movq = random_movq(decoder="conv1_attn")
    latents = torch.randn(1, 4, 9, 4, 6)
    found = DecodePlan(4, 1, True, 0)
    banded = decode_chunked(decoder_for(movq, found), latents, found.chunk, found.overlap)
    torch.testing.assert_close(banded, decode_chunked(movq, latents, found.chunk, found.overlap), rtol=0, atol=1e-5)


def test_encoding_takes_as_many_frames_as_fit() -> None:
    size, one = (512, 512), encode_bytes(VIDEO, 1, (512, 512), torch.bfloat16)
    for frames, free, expected in ((61, 100, 8), (3, 100, 3), (61, 8, 8), (61, 7.9, 7), (61, 2.5, 2), (61, 1, 1)):
        assert plan_encode(VIDEO, frames, size, torch.bfloat16, free * one) == expected
    with pytest.raises(ValueError, match=r"to encode 512x512 in bfloat16; got 0\.\d+ GB: free some"):
        plan_encode(VIDEO, 61, size, torch.bfloat16, 0.9 * one)


def test_encoding_holds_no_more_than_its_estimate() -> None:
    movq = MoVQ(OFFICIAL, device="meta", dtype=torch.bfloat16).eval().requires_grad_(False)
    pixels = torch.empty(1, 3, 2, 256, 256, device="meta", dtype=torch.bfloat16)
    with torch.no_grad(), counter() as held:
        movq.encode(pixels)
    needed = encode_bytes(OFFICIAL, 2, (256, 256), torch.bfloat16)
    assert 0.6 * needed < held.most <= needed


def test_encoding_in_smaller_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    movq = random_movq().requires_grad_(False)
    pixels = torch.randn(1, 3, 5, 16, 24)
    whole = encode_frames(movq, pixels, torch.device("cpu"))
    free = 2.5 * encode_bytes(movq.config, 1, (16, 24), torch.float32)
    monkeypatch.setattr(decode_plan, "available_bytes", lambda device: free)
    monkeypatch.setattr(movq, "encode", lambda chunk, own=movq.encode: own(chunk) if chunk.shape[2] <= 2 else None)
    assert torch.allclose(encode_frames(movq, pixels, torch.device("cpu")), whole, atol=1e-5)


def test_chunks_that_are_asked_for_take_bands_where_they_must(monkeypatch: pytest.MonkeyPatch) -> None:
    movq, latents = random_movq(decoder="conv1_attn"), torch.randn(1, 4, 13, 4, 6)
    ways = (({"chunk": 6}, 6, "decode fewer at once"), ({"windows": "official"}, 5, "decode in blended windows"))
    for options, length, change in ways:
        assert (plan_for(movq, latents, **options).chunk, plan_for(movq, latents, **options).banded) == (length, False)
        whole = decode_bytes(movq.config, length, (4, 6), torch.float32)
        # Of frames as small as these a band's own work is more than the frames.
        monkeypatch.setattr(decode_plan, "BAND_NUMBERS", 0)
        banded = decode_bytes(movq.config, length, (4, 6), torch.float32, True)
        monkeypatch.setattr(decode_plan, "available_bytes", lambda device, free=whole - 1: free)
        assert plan_for(movq, latents, **options).banded
        monkeypatch.setattr(decode_plan, "available_bytes", lambda device, free=banded - 1: free)
        words = rf"at least .* GB to decode {length} frames at once of 24x16 .*{change}, or decode on the CPU"
        with pytest.raises(ValueError, match=words):
            plan_for(movq, latents, **options)
        monkeypatch.undo()


def test_official_groups_in_bands_give_the_same_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    movq, latents = random_movq(decoder="conv1_attn"), torch.randn(1, 4, 13, 4, 6)
    expected = decode_chunked(movq, latents, windows="official")
    monkeypatch.setattr(decode_plan, "BAND_NUMBERS", 0)
    free = decode_bytes(movq.config, 5, (4, 6), torch.float32) - 1
    monkeypatch.setattr(decode_plan, "available_bytes", lambda device: free)
    found = plan_for(movq, latents, windows="official")
    out = decode_chunked(decoder_for(movq, found), latents, found.chunk, found.overlap, windows="official")
    assert found.banded
    assert (out - expected).abs().max() < 1e-5 * expected.abs().max()


def test_frames_by_themselves_go_by_what_is_free_too(monkeypatch: pytest.MonkeyPatch) -> None:
    movq, latents = random_movq(decoder="conv1_attn"), torch.randn(1, 4, 9, 4, 6)
    seen: list[tuple[int, int]] = []
    expected = decode_frames(movq, latents, torch.device("cpu"), lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]
    monkeypatch.setattr(decode_plan, "BAND_NUMBERS", 0)
    video = video_bytes(movq.config, 9, (4, 6), torch.float32)
    free = decode_bytes(movq.config, 2, (4, 6), torch.float32, True) + video
    monkeypatch.setattr(decode_plan, "available_bytes", lambda device: free)
    out = decode_frames(movq, latents, torch.device("cpu"), lambda done, total: seen.append((done, total)))
    assert seen[-1] == (5, 5)
    assert (out - expected).abs().max() < 1e-5 * expected.abs().max()
