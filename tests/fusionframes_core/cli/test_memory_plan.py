"""What the command line plans by the memory that is free, and what it refuses before the work."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from fusionframes_core.cli import memory_plan
from fusionframes_core.cli.interpolating import Interpolation
from fusionframes_core.cli.memory_plan import check_fits, generation_bytes, plan_interpolation, windows_of
from fusionframes_core.config import ModelConfig
from fusionframes_core.media.write_video import write_mp4
from fusionframes_core.models.movq import decode_plan
from fusionframes_core.models.movq.chunked_decode import chunk_windows
from fusionframes_core.models.movq.decode_plan import decode_bytes
from fusionframes_core.pipeline import FusionFramesPipeline
from fusionframes_core.presets import KANDINSKY_VIDEO_1_0, KANDINSKY_VIDEO_1_1
from fusionframes_core.settings import latent_size
from tests.fusionframes_core.cli.test_commands import refusal
from tests.helpers.video_files import bars

CPU = torch.device("cpu")


def test_windows_cover_every_frame_once() -> None:
    for count, length in ((2, 8), (8, 8), (9, 8), (57, 8), (200, 64)):
        windows = windows_of(count, length)
        assert windows[0].first == 0
        assert windows[-1].last == count - 1
        assert windows[-1].stop == count
        for left, right in pairwise(windows):
            assert left.last == right.first
            assert right.start + 2 <= left.last <= left.stop - 2
        assert all(window.stop - window.start <= length for window in windows)


def test_scarce_memory_gives_the_same_number_of_frames(micro_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoding and decoding take what is free when their turn comes, as in the pipeline itself."""
    pipeline = FusionFramesPipeline.from_pretrained(micro_folder)
    pictures = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)
    movq, seen = pipeline.config.movq, []
    decode = partial(decode_bytes, movq, size=latent_size(pipeline.config, (16, 16)), dtype=torch.float32)
    work = Interpolation(pipeline, None, (1,), {"steps": 1}, 8, lambda stage, *step: seen.append((stage, step[1])))
    made = 4 * (windows_of(9, 8)[0].stop - 1) + 1
    for chunk in (16, 4):
        free = decode(chunk) + 3 * 4 * made * 16 * 16  # and the finished window
        monkeypatch.setattr(decode_plan, "available_bytes", lambda device, free=free: free)
        seen.clear()
        assert len(list(work.frames(iter(pictures), 9))) == 33
        assert ("window 1 of 2, decode", len(chunk_windows(made, chunk, chunk // 4))) in seen


def test_plans_shrink_with_the_size(micro_config: ModelConfig) -> None:
    sizes = ((64, 64), (2048, 2048))
    small, large = (plan_interpolation(micro_config, size, 1, CPU, torch.float32) for size in sizes)
    assert (small.window, large.window) == (64, 8)
    assert large.bytes > small.bytes


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("model", [KANDINSKY_VIDEO_1_0, KANDINSKY_VIDEO_1_1], ids=lambda model: model.name)
def test_an_interpolation_goes_by_what_is_free_and_its_type(
    model: ModelConfig, dtype: torch.dtype, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """512x512 is refused only where neither the shortest window nor one frame in bands can fit."""
    place, size, before = torch.device(device), (512, 512), 0
    for free in (0.3e9, 2e9, 5e9, 9.5e9, 80e9):
        monkeypatch.setattr(memory_plan, "available_bytes", lambda device, free=free: int(free))
        plan = plan_interpolation(model, size, 1, place, dtype)
        assert plan.window >= max(before, 8)
        before = plan.window
        least = generation_bytes(model, size, 4 * plan.window, dtype)
        assert plan.bytes == max(least, plan.bytes)
        assert plan.bytes <= max(free, 2.2e9), "no more than what is free, but for the shortest window"
        if free > 1e9:
            check_fits(plan.bytes, size, place)
        else:
            with pytest.raises(ValueError, match="size 512x512 cannot fit"):
                check_fits(plan.bytes, size, place)
    half = plan_interpolation(model, size, 1, place, torch.bfloat16)
    assert half.window >= plan_interpolation(model, size, 1, place, torch.float32).window


def test_a_generation_needs_no_more_than_its_decoder_can_do_with() -> None:
    """The official size is not refused for frames that are not decoded at once; a chunk that is asked for is."""
    config, size = KANDINSKY_VIDEO_1_1, (512, 512)
    least = generation_bytes(config, size, 45, torch.bfloat16)
    asked = generation_bytes(config, size, 45, torch.bfloat16, chunk=16)
    assert 0.5e9 < least < 2e9
    assert 4e9 < asked < 9e9, "in bands, where the whole frames do not fit"
    assert generation_bytes(config, size, 45, torch.float8_e4m3fn) == least
    assert generation_bytes(config, size, 45, torch.float32) > 1.5 * least


@pytest.mark.parametrize("command", ["interpolate", "generate"])
def test_a_size_that_cannot_fit_is_refused_before_the_work(
    command: str,
    micro_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    write_mp4(bars([9] * 4), tmp_path / "in.mp4", 8)
    start = {"interpolate": ["interpolate", str(tmp_path / "in.mp4")], "generate": ["generate", "--prompt", "a circle"]}
    monkeypatch.setattr(FusionFramesPipeline, "from_pretrained", load)
    monkeypatch.setattr(memory_plan, "available_bytes", lambda device: 8 * 1024**3)
    options = ["--model", str(micro_folder), "--device", "cpu", "--out", str(tmp_path / "out.mp4")]
    said = refusal([*start[command], *options, "--size", "40000x40000"], tmp_path, capsys)
    assert "size 40000x40000 cannot fit: it needs about" in said
    assert "8.0 GiB of memory are free on cpu" in said
