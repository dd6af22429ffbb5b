"""The evaluation of interpolation, with stand-ins whose result is known."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from tests.helpers.video_tools import nearest, same
from training.evaluation.interpolation_quality import (
    MAX_PSNR,
    VideoTools,
    between,
    blend,
    draw_scenes,
    evaluate_interpolation,
)
from training.moving_shapes.scenes import is_held_out


def test_blending_keeps_keyframes_and_is_exact_on_ramps() -> None:
    ramp = torch.arange(0, 13, dtype=torch.float32).view(1, 1, 13, 1, 1).expand(2, 3, 13, 4, 4)
    assert torch.allclose(blend(ramp[:, :, ::4]), ramp)
    assert between(ramp)[0, 0, :, 0, 0].tolist() == [1, 2, 3, 5, 6, 7, 9, 10, 11]


def test_scenes_are_unseen_and_each_motion_comes_as_often() -> None:
    for kind, speeds in (("fast", {"slowly", "quickly"}), ("slow", {"slowly"})):
        scenes = draw_scenes(kind, 56, seed=0)
        assert all(is_held_out(scene.colour, scene.shape, scene.motion) for scene in scenes)
        assert {scene.speed for scene in scenes} == speeds
        assert min(sum(s.motion == motion for s in scenes) for motion in {s.motion for s in scenes}) >= 7
    assert {s.motion for s in draw_scenes("fast", 7, 0)} & {s.motion for s in draw_scenes("slow", 8, 0)} == {"spinning"}


def test_interpolation_is_compared_frame_by_frame() -> None:
    tools = VideoTools(encode=same, decode=same, interpolate=lambda x, s, seed: blend(x), size=32)
    report = evaluate_interpolation(tools, clips=4, batch=2, passes=(1,))
    for kind in ("fast", "slow"):
        # Here latents are pixels, so blending either is the same, and so is the "model", which blends.
        assert report["pass 1"][kind]["gain"]["linear latents"] == pytest.approx(0.0, abs=1e-3)
        assert report["pass 1"][kind]["gain"]["linear pixels, decoded"] == pytest.approx(0.0, abs=1e-3)
        assert report["pass 1"][kind]["psnr"]["ceiling"] == MAX_PSNR
    quick = [entry["interpolation"] for name, entry in report["pass 1"]["fast"]["by_motion"].items() if "quick" in name]
    assert report["pass 1"]["quick"]["psnr"]["interpolation"] == pytest.approx(sum(quick) / len(quick))
    assert report["reached"] == {
        "fast: linear latents +3.5 dB": False,
        "fast: linear pixels, decoded +2.0 dB": False,
        "slow: linear latents -0.3 dB": True,
    }
    worse = evaluate_interpolation(VideoTools(same, same, nearest, size=32), clips=2, passes=(1,))
    assert worse["pass 1"]["fast"]["gain"]["linear latents"] < 0
    json.dumps(report)


def test_interpolation_sees_the_skip_frames_of_its_pass_and_true_frames() -> None:
    seen: list[tuple[int, tuple[int, ...]]] = []

    def spy(latents: Tensor, skip_frames: int, seed: int) -> Tensor:
        seen.append((skip_frames, tuple(latents.shape)))
        return blend(latents)

    report = evaluate_interpolation(VideoTools(same, same, spy, size=32), clips=1, passes=(1, 2))
    assert seen == [(3, (1, 3, 16, 32, 32))] * 2 + [(1, (1, 3, 16, 32, 32))] * 2
    # Four times slower: blending does better in the second pass.
    assert report["pass 2"]["fast"]["psnr"]["linear latents"] > report["pass 1"]["fast"]["psnr"]["linear latents"] + 3
