"""Decoding in chunks: it covers every frame, blends without a seam, and takes no more than a chunk at once."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from fusionframes_core.models.movq.chunked_decode import chunk_windows, decode_chunked, fade_in, official_windows
from fusionframes_core.models.movq.movq import MoVQ
from tests.helpers.movq_cases import random_latents, random_movq


class FrameNumbers:
    """Decodes each latent to a pixel of the same value, plus `offset` for every chunk before it."""

    factor = 1
    frames_are_independent = False

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset
        self.lengths: list[int] = []

    def decode(self, latents: Tensor) -> Tensor:
        self.lengths.append(latents.shape[2])
        return latents[:, :3] + self.offset * (len(self.lengths) - 1)


def numbered(frames: int) -> Tensor:
    return torch.arange(float(frames)).view(1, 1, -1, 1, 1).expand(1, 4, -1, 2, 3)


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 16])
def test_windows_cover_every_frame(chunk: int) -> None:
    for frames in range(1, 60):
        for overlap in range(chunk):
            windows = chunk_windows(frames, chunk, overlap)
            assert (windows[0][0], windows[-1][1]) == (0, frames)
            assert all(0 < stop - start <= chunk for start, stop in windows)
            assert all(a < b and stop - b >= overlap for (a, stop), (b, _) in pairwise(windows))


def test_windows_are_not_more_than_needed() -> None:
    assert chunk_windows(16, 16, 4) == [(0, 16)]
    assert chunk_windows(17, 16, 4) == [(0, 11), (6, 17)]
    assert len(chunk_windows(241, 16, 4)) == 20


def test_blending_puts_every_frame_in_its_place() -> None:
    """The weights of a frame sum to one, whatever the lengths: what all chunks agree on is kept."""
    for frames in (1, 2, 5, 16, 17, 40, 61):
        for chunk, overlap in ((1, 0), (4, 1), (5, 4), (16, 4), (16, 0)):
            decoder = FrameNumbers()
            video = decode_chunked(decoder, numbered(frames), chunk, overlap)
            torch.testing.assert_close(video, numbered(frames)[:, :3])
            assert max(decoder.lengths) <= chunk


def test_blending_is_linear() -> None:
    """Chunks that differ by a constant 1 fade into each other in equal steps."""
    video = decode_chunked(FrameNumbers(offset=1.0), torch.zeros(1, 4, 17, 1, 1), 11, 5)
    steps = video[0, 0, :, 0, 0].diff()
    torch.testing.assert_close(steps[5:11], torch.full((6,), 1 / 6))
    assert steps[:5].abs().max() == 0
    assert steps[11:].abs().max() == 0


def test_fade_starts_and_ends_inside() -> None:
    torch.testing.assert_close(fade_in(3), torch.tensor([0.25, 0.5, 0.75]))
    torch.testing.assert_close(fade_in(4) + fade_in(4).flip(0), torch.ones(4))


@torch.no_grad()
def test_image_decoder_in_chunks_is_the_image_decoder() -> None:
    movq = random_movq()
    latents = random_latents(frames=11)
    lengths = count_frames(movq)
    torch.testing.assert_close(decode_chunked(movq, latents, 4, 2), movq.decode(latents))
    assert lengths[:-1] == [4, 4, 4]  # 11 frames and one decoded twice, no overlap of two


@torch.no_grad()
def test_one_chunk_is_the_whole() -> None:
    movq = random_movq(decoder="conv3_attn", attention_norm="first_frame")
    latents = random_latents(frames=7)
    assert torch.equal(decode_chunked(movq, latents, 7, 2), movq.decode(latents))


@torch.no_grad()
def test_no_seam_between_chunks() -> None:
    """A still video: hard cuts between chunks show as jumps between frames, blended ones hardly."""
    movq = random_movq(decoder="conv1_attn")
    latents = random_latents(batch=1, frames=1).expand(-1, -1, 36, -1, -1)
    lengths = count_frames(movq)

    def jump(overlap: int) -> Tensor:
        video = decode_chunked(movq, latents, 12, overlap)
        return video.diff(dim=2)[:, :, 6:-6].abs().amax()

    assert jump(6) < 0.4 * jump(0)
    assert max(lengths) <= 12


@torch.no_grad()
def test_progress_and_cancel() -> None:
    movq = random_movq(decoder="conv1")
    seen: list[tuple[int, int]] = []
    decode_chunked(movq, random_latents(frames=10), 4, 1, callback=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]

    def cancel(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    lengths = count_frames(movq)
    with pytest.raises(KeyboardInterrupt):
        decode_chunked(movq, random_latents(frames=10), 4, 1, callback=cancel)
    assert len(lengths) == 2


@pytest.mark.parametrize(
    ("chunk", "overlap", "message"),
    [(0, 0, "chunk must be at least 1 frame; got 0"), (4, 4, "less than the chunk of 4 frames; got 4"), (4, -1, "-1")],
)
def test_impossible_chunks_are_refused(chunk: int, overlap: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_chunked(random_movq(), random_latents(), chunk, overlap)


def count_frames(movq: MoVQ) -> list[int]:
    """The frames per video of every call of the decoder from now on."""
    lengths: list[int] = []
    movq.decoder.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[1].num_frames))
    return lengths


@pytest.mark.parametrize("frames", [1, 3, 4, 7, 12, 15, 45, 57, 61, 241])
def test_official_windows_are_torchs_chunks(frames: int) -> None:
    """The official code decodes `video.chunk(video.shape[0] // 4)`."""
    lengths = [len(part) for part in torch.arange(frames).chunk(max(frames // 4, 1))]
    windows = official_windows(frames)
    assert [stop - start for start, stop in windows] == lengths
    assert [start for start, _ in windows] == [sum(lengths[:index]) for index in range(len(lengths))]


def test_official_windows_are_decoded_one_by_one() -> None:
    """By name; the default blends, and another name is refused in a sentence."""
    movq, latents = random_movq(decoder="conv3_attn"), random_latents(frames=7)
    with torch.no_grad():
        groups = torch.cat([movq.decode(part) for part in latents.split(7, dim=2)], dim=2)
        assert torch.equal(decode_chunked(movq, latents, windows="official"), groups)
        parts = torch.cat([movq.decode(part) for part in latents.repeat(1, 1, 2, 1, 1).split(5, dim=2)], dim=2)
        longer = decode_chunked(movq, latents.repeat(1, 1, 2, 1, 1), windows="official")
        assert torch.equal(longer, parts)
        assert not torch.equal(decode_chunked(movq, latents.repeat(1, 1, 2, 1, 1), chunk=8), parts)
    with pytest.raises(ValueError, match="decode_windows must be one of blended, official; got 'wide'"):
        decode_chunked(movq, latents, windows="wide")
