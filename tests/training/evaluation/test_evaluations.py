"""Evaluations with stand-ins whose result is known: perfect, blind and spoiled models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fusionframes_core.models.text_encoder import TextContext
from fusionframes_core.presets import TINY
from fusionframes_core.sampling.schedule import NoiseSchedule
from training.engine.command_line import BadInput
from training.evaluation.decoder_quality import evaluate_decoder
from training.evaluation.interpolation_quality import (
    MAX_PSNR,
    VideoTools,
    between,
    blend,
    draw_scenes,
    evaluate_interpolation,
)
from training.evaluation.motion_gap import OPPOSITE, motion_gap, plain_caption
from training.evaluation.shape_accuracy import ShapesRun, run_shapes, score_shapes
from training.evaluation.video_metrics import flicker, psnr, ssim, wilson
from training.moving_shapes.prompts_file import Prompt, make_prompts, parse_prompt, read_prompts, write_prompts
from training.moving_shapes.scenes import MOTIONS, caption, is_held_out, keyframe_times, render, sample_scene

HELD_OUT = Path(__file__).parents[3] / "training" / "prompts" / "held_out_200.jsonl"


def draw(prompts: list[str], seed: int) -> NDArray[np.uint8]:
    """What a perfect generator would make of the prompts."""
    videos = []
    for index, text in enumerate(prompts):
        asked = {key: value for key, value in vars(parse_prompt(text)).items() if key != "prompt" and value}
        scene = sample_scene(np.random.default_rng(seed + index), None, **asked)
        videos.append(render(scene, keyframe_times()))
    return np.stack(videos)


# Prompts


def test_the_words_of_a_caption_are_found_again() -> None:
    rng = np.random.default_rng(0)
    for _ in range(400):
        scene = sample_scene(rng, None)
        found = parse_prompt(caption(scene, rng))
        assert (found.shape, found.colour, found.motion) == (scene.shape, scene.colour, scene.motion)
        assert found.speed in (None, scene.speed)
        assert found.size in (None, scene.size)


@pytest.mark.parametrize(
    ("text", "shape", "colour", "motion"),
    [
        ("A large RED circle, moving slowly to the left!", "circle", "red", "moving left"),
        ("blue star moves in a circle on a white background", "star", "blue", "circling"),
        ("an orange square", "square", "orange", None),
        ("something that rotates", None, None, "spinning"),
        ("a green circle circles on a grey background", "circle", "green", "circling"),
    ],
)
def test_free_wordings_are_understood(text: str, shape: str, colour: str, motion: str) -> None:
    found = parse_prompt(text)
    assert (found.shape, found.colour, found.motion) == (shape, colour, motion)


def test_held_out_prompts_are_held_out_different_and_cover_everything() -> None:
    prompts = make_prompts(200, seed=0)
    assert len({prompt.prompt for prompt in prompts}) == 200
    assert all(is_held_out(p.colour, p.shape, p.motion) for p in prompts if p.colour and p.shape and p.motion)
    combinations = {(p.colour, p.shape, p.motion) for p in prompts}
    assert len(combinations) == 43
    assert {p.motion for p in prompts} == set(MOTIONS)
    assert make_prompts(200, seed=0) == prompts != make_prompts(200, seed=1)


def test_the_shipped_prompts_are_what_the_command_makes() -> None:
    assert HELD_OUT.read_text("utf-8") == write_prompts(make_prompts())
    assert read_prompts(HELD_OUT) == make_prompts()


def test_prompts_are_read_from_text_and_from_json(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text('# comment\n\na red star that spins\n{"prompt": "surprise me", "colour": "blue"}\n')
    expected = [Prompt("a red star that spins", "star", "red", "spinning"), Prompt("surprise me", colour="blue")]
    assert read_prompts(file) == expected
    assert read_prompts(file, limit=1) == expected[:1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("hello there", "line 1: a prompt must name a shape, a colour or a motion; got 'hello there'"),
        ('{"prompt": "x", "colour": "pink"}', "line 1: colour must be one of red, .* got 'pink'"),
        ('{"prompt": "x", "color": "red"}', "line 1: keys must be among prompt, .* got color"),
        ('{"colour": "red"}', "line 1: prompt must be a string"),
        ('{"prompt": ', "line 1: not JSON"),
        ("", "must hold at least one prompt"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text(line)
    with pytest.raises(BadInput, match=message):
        read_prompts(file)


# Shapes


def test_a_perfect_generator_is_right_and_a_shuffled_one_is_not() -> None:
    prompts = make_prompts(22, seed=3)
    videos = draw([prompt.prompt for prompt in prompts], 0)
    report = score_shapes(prompts, videos)
    assert report["reached"]
    assert report["all_right"] == {"right": 22, "of": 22, "share": 1.0, "interval": list(wilson(22, 22))}
    assert sum(entry["motion"]["of"] for entry in report["by_motion"].values()) == 22
    assert all(shown == {asked: shown[asked]} for asked, shown in report["confusion"]["motion"].items())
    shifted = score_shapes(prompts, np.roll(videos, 1, axis=0))
    assert not shifted["reached"]
    assert shifted["accuracy"]["motion"]["share"] < 0.3


def test_what_is_not_asked_for_is_not_counted() -> None:
    report = score_shapes([Prompt("a star", shape="star")], draw(["a star"], 0))
    assert report["accuracy"]["shape"]["of"] == 1
    assert report["accuracy"]["motion"] == {"right": 0, "of": 0, "share": 0.0, "interval": [0.0, 1.0]}


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    prompts, partial = make_prompts(7, seed=1), tmp_path / "rows.jsonl"
    calls: list[int] = []

    def stop_after_two(texts: list[str], seed: int) -> NDArray[np.uint8]:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(seed)
        return draw(texts, seed)

    settings = {"steps": 20}
    with pytest.raises(KeyboardInterrupt):
        run_shapes(prompts, ShapesRun(stop_after_two, settings, seed=5, batch=2), partial)
    calls.clear()
    rest = run_shapes(prompts, ShapesRun(stop_after_two, settings, seed=5, batch=2), partial, resume=True)
    whole = run_shapes(prompts, ShapesRun(draw, settings, seed=5, batch=3))
    assert calls == [9, 11]
    assert rest["rows"] == whole["rows"]
    with pytest.raises(BadInput, match="--resume needs the settings"):
        run_shapes(prompts, ShapesRun(draw, {"steps": 21}), partial, resume=True)


# Metrics


def test_metrics_agree_with_their_definitions() -> None:
    generator = torch.Generator().manual_seed(0)
    video = torch.rand(2, 3, 5, 16, 16, generator=generator) * 1.6 - 0.8
    assert psnr(video + 0.2, video).tolist() == pytest.approx([20.0, 20.0], abs=1e-3)
    assert flicker(video + 0.1, video).abs().max() < 1e-3  # a constant error does not flicker
    blinking = video + 0.02 * torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0]).view(1, 1, 5, 1, 1)
    assert flicker(blinking, video).tolist() == pytest.approx([0.04 * 127.5] * 2, rel=1e-3)
    assert ssim(video, video).tolist() == pytest.approx([1.0, 1.0])
    noise = torch.randn(video.shape, generator=generator)
    assert (ssim(video + 0.3 * noise, video) < ssim(video + 0.1 * noise, video)).all()


def test_an_output_out_of_range_is_clipped() -> None:
    white = torch.ones(1, 3, 2, 16, 16)
    assert psnr(white * 3, white).item() == float("inf")


# Interpolation and decoder


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


def nearest(latents: Tensor, skip_frames: int, seed: int) -> Tensor:
    """An interpolation that repeats keyframes."""
    return torch.cat([latents[:, :, :-1].repeat_interleave(4, dim=2), latents[:, :, -1:]], dim=2)


def same(video: Tensor) -> Tensor:
    return video


def halve(pixels: Tensor) -> Tensor:
    return functional.interpolate(pixels, size=(pixels.shape[2], *(side // 2 for side in pixels.shape[3:])))


def double(latents: Tensor) -> Tensor:
    return functional.interpolate(latents, scale_factor=(1, 2, 2))


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
        "fast: linear latents +3.0 dB": False,
        "fast: linear pixels, decoded +2.0 dB": False,
        "slow: linear latents -0.5 dB": True,
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


def test_a_decoder_that_flickers_loses() -> None:
    generator = torch.Generator().manual_seed(0)

    def flickering(latents: Tensor) -> Tensor:
        video = double(latents)
        return video + 0.1 * torch.randn(video.shape, generator=generator)

    decoders = {"temporal": double, "image": flickering}
    report = evaluate_decoder(halve, decoders, nearest, clips=1, size=32)
    assert set(report["latents"]) == {"true", "noised", "interpolated"}
    assert all(report["reached"].values())
    swapped = evaluate_decoder(halve, {"temporal": flickering, "image": double}, clips=1, size=32)
    assert set(swapped["latents"]) == {"true", "noised"}
    assert not any(swapped["reached"].values())


# The motion gap


class LeftOrRight:
    """A text encoder that reads nothing but the direction, into the context's first number."""

    def encode(self, prompts: list[str]) -> TextContext:
        signs = [1.0 if "left" in prompt else -1.0 if "right" in prompt else 0.0 for prompt in prompts]
        return TextContext(torch.tensor(signs).view(-1, 1, 1), torch.ones(len(prompts), 1, dtype=torch.bool))


def reads(share: float, schedule: NoiseSchedule):
    """An oracle of v for clips of constant ±1 that trusts the text's direction by `share`."""

    def predict(x: Tensor, t: Tensor, text: TextContext) -> Tensor:
        alpha, sigma = (value.view(-1, 1, 1, 1, 1) for value in schedule.alpha_sigma(t))
        return (alpha * x - share * text.context.view(-1, 1, 1, 1, 1)) / sigma

    return predict


def test_the_gap_shows_whether_motion_words_are_read() -> None:
    schedule = NoiseSchedule.from_config(TINY.keyframe_schedule)
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng, None, motion=f"moving {way}") for way in ("left", "right") * 4]
    scenes.append(sample_scene(rng, None, motion="circling"))
    latents = torch.ones(9, 4, 2, 8, 8)
    latents[1:8:2] *= -1

    def gap(share: float) -> dict[str, float]:
        generator = torch.Generator().manual_seed(0)
        return motion_gap(reads(share, schedule), latents, scenes, LeftOrRight(), schedule, generator)  # type: ignore[arg-type]

    reader, blind = gap(1.0), gap(0.0)
    assert reader["gap_right"] < 1e-6 < 1 < reader["gap"] == pytest.approx(reader["gap_wrong"])
    assert reader["gap_wins"] == 1.0
    assert set(reader) >= {"gap/moving left", "gap/moving right"}
    assert "gap/circling" not in reader
    assert blind["gap"] == 0.0 == blind["gap_wins"]


def test_opposites_are_mutual_and_differ_in_the_motion_words_alone() -> None:
    rng = np.random.default_rng(1)
    for motion, opposite in OPPOSITE.items():
        assert OPPOSITE[opposite] == motion
        scene = sample_scene(rng, None, motion=motion)
        right, wrong = parse_prompt(plain_caption(scene)), parse_prompt(plain_caption(scene, opposite))
        assert (right.motion, wrong.motion) == (motion, opposite)
        assert (right.shape, right.colour, right.size, right.speed) == (
            wrong.shape,
            wrong.colour,
            wrong.size,
            wrong.speed,
        )


def test_the_gap_needs_a_motion_with_an_opposite() -> None:
    scene = sample_scene(np.random.default_rng(0), None, motion="circling")
    schedule = NoiseSchedule.from_config(TINY.keyframe_schedule)
    with pytest.raises(ValueError, match="scenes must hold at least one whose motion has an opposite"):
        motion_gap(reads(1.0, schedule), torch.ones(1, 4, 2, 8, 8), [scene], LeftOrRight(), schedule, torch.Generator())  # type: ignore[arg-type]
