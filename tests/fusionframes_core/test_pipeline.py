"""Laws of the whole way from prompt to video, on a model with random weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fusionframes_core import FusionFramesPipeline, Stopped
from fusionframes_core.config import ModelConfig
from fusionframes_core.models.movq.chunked_decode import decode_windows
from fusionframes_core.presets import KANDINSKY_VIDEO_1_0, KANDINSKY_VIDEO_1_1, TINY
from fusionframes_core.sampling.interpolation_sampling import perturb
from fusionframes_core.sampling.noise import stage_noise

PROMPT = "a large red circle moving left"


@pytest.fixture(scope="module")
def pipe(micro_folder: Path) -> FusionFramesPipeline:
    return FusionFramesPipeline.from_pretrained(micro_folder)


def test_shapes_and_rates_follow_the_passes(pipe: FusionFramesPipeline) -> None:
    result = pipe(PROMPT, passes=2)
    assert result.frames.shape == (1, 3, 49, 16, 16)
    assert result.latents.shape == (1, 4, 49, 4, 4)
    assert result.keyframe_latents.shape == (1, 4, 4, 4, 4)
    assert (result.num_frames, result.fps) == (49, 2.0 * 16)
    assert result.frames.dtype == torch.float32
    assert result.frames.abs().max() <= 1
    assert result.frames.std() > 0.01


def test_a_seed_means_one_video_and_the_same_keyframes_for_every_number_of_passes(pipe: FusionFramesPipeline) -> None:
    results = [pipe(PROMPT, seed=7, passes=passes) for passes in (0, 1, 2)]
    for result in results:
        assert torch.equal(result.keyframe_latents, results[0].keyframe_latents)
    assert torch.equal(results[2].latents[:, :, ::4], results[1].latents)
    assert torch.equal(results[1].latents[:, :, ::4], results[0].latents)
    torch.manual_seed(99)
    again = pipe(PROMPT, seed=7, passes=1)
    assert torch.equal(again.frames, results[1].frames)
    assert not torch.equal(pipe(PROMPT, seed=8, passes=0).latents, results[0].latents)


def test_the_stages_one_by_one_give_the_whole(pipe: FusionFramesPipeline) -> None:
    whole = pipe(PROMPT, seed=3, passes=1)
    text = pipe.encode_text([PROMPT])
    keyframes = pipe.sample_keyframes(text, seed=3)
    latents = pipe.interpolate(keyframes, seed=3)
    assert torch.equal(latents, whole.latents)
    assert torch.equal(pipe.decode(latents).clamp(-1, 1), whole.frames)


def test_a_batch_is_its_videos(pipe: FusionFramesPipeline) -> None:
    other = "blue star"
    batch = pipe([PROMPT, other], seed=5, passes=1, guidance=1.0)
    for index, prompt in enumerate((PROMPT, other)):
        alone = pipe(prompt, seed=5 + index, passes=1, guidance=1.0)
        torch.testing.assert_close(batch.latents[index : index + 1], alone.latents, rtol=1e-3, atol=1e-3)


def test_prompt_negative_prompt_and_guidance_change_the_video(pipe: FusionFramesPipeline) -> None:
    base = pipe(PROMPT, passes=0).latents
    changes = [
        pipe("a small blue star moving up", passes=0),
        pipe("", passes=0),
        pipe(PROMPT, passes=0, negative_prompt="blue"),
        pipe(PROMPT, passes=0, guidance=3.0),
        pipe(PROMPT, passes=0, steps=2),
        pipe(PROMPT, passes=0, sampler="ddpm"),
    ]
    for change in changes:
        assert not torch.allclose(base, change.latents, atol=2e-3)


def test_the_empty_prompt_is_unconditional(pipe: FusionFramesPipeline) -> None:
    """With u = c the guidance weight has nothing to push."""
    runs = [pipe("", passes=0, guidance=weight).latents for weight in (0.0, 2.0)]
    torch.testing.assert_close(runs[0], runs[1], rtol=1e-3, atol=1e-3)


def test_interpolation_settings_change_the_frames_between_only(pipe: FusionFramesPipeline) -> None:
    base = pipe(PROMPT, passes=1)
    for change in (
        {"skip_frames": (9,)},
        {"perturbation": 100},
        {"interpolation_guidance": 2.0},
        {"interpolation_steps": 3},
    ):
        other = pipe(PROMPT, passes=1, **change)
        assert torch.equal(other.latents[:, :, ::4], base.latents[:, :, ::4])
        assert not torch.allclose(other.latents, base.latents, atol=1e-5), change


def test_what_context_guidance_drops_is_the_models_choice(pipe: FusionFramesPipeline) -> None:
    """Frames only (1.0), or the temporal layers too (1.1); without guidance it makes no difference."""
    keyframes = torch.randn(1, 4, 3, 4, 4)
    config = dataclasses.replace(pipe.config, drop_temporal=not pipe.config.drop_temporal)
    other = FusionFramesPipeline(dataclasses.replace(pipe.parts, config=config))
    assert torch.equal(pipe.interpolate(keyframes, guidance=0.0), other.interpolate(keyframes, guidance=0.0))
    ours, theirs = pipe.interpolate(keyframes, guidance=2.0), other.interpolate(keyframes, guidance=2.0)
    assert not torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("num_frames", [1, 2, 7])
def test_other_numbers_of_keyframes(pipe: FusionFramesPipeline, num_frames: int) -> None:
    passes = int(num_frames > 1)
    result = pipe(PROMPT, num_frames=num_frames, passes=passes)
    assert result.num_frames == (4 * num_frames - 3 if passes else 1)


def test_other_sizes(pipe: FusionFramesPipeline) -> None:
    assert pipe(PROMPT, passes=1, size=(8, 24)).frames.shape == (1, 3, 13, 8, 24)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_nearly_the_same_video(
    pipe: FusionFramesPipeline, micro_folder: Path, dtype: torch.dtype
) -> None:
    half = FusionFramesPipeline.from_pretrained(micro_folder, dtype=dtype)
    ours, theirs = half(PROMPT, passes=1, guidance=1.0), pipe(PROMPT, passes=1, guidance=1.0)
    assert ours.frames.dtype == torch.float32
    assert half.num_bytes < 0.6 * pipe.num_bytes
    assert (ours.latents - theirs.latents).abs().mean() < 0.05


def test_the_callback_sees_whole_videos_and_stops_at_once(pipe: FusionFramesPipeline) -> None:
    seen: list[tuple[str, int, int]] = []

    def callback(stage: str, step: int, total: int, latents: Tensor) -> Stopped | None:
        assert latents.shape == (1, 4, 4 if stage == "keyframes" else 13, 4, 4)
        seen.append((stage, step, total))
        return None

    pipe(PROMPT, passes=1, callback=callback)
    steps = [("keyframes", 1, 3), ("keyframes", 2, 3), ("keyframes", 3, 3)]
    assert seen == [*steps, ("interpolation 1", 1, 2), ("interpolation 1", 2, 2), ("decode", 1, 1)]
    for stop_at in ("keyframes", "interpolation 1", "decode"):
        with pytest.raises(Stopped):
            pipe(PROMPT, passes=1, callback=lambda stage, *_, at=stop_at: Stopped() if stage == at else None)


def test_encoding_and_decoding_agree_on_shapes(pipe: FusionFramesPipeline) -> None:
    pixels = torch.rand(1, 3, 19, 16, 24) * 2 - 1
    latents = pipe.encode(pixels)
    assert latents.shape == (1, 4, 19, 4, 6)
    assert torch.equal(latents[:, :, 17:], pipe.encode(pixels[:, :, 17:]))
    assert pipe.decode(latents).shape == pixels.shape
    one = pipe.decode(latents[:, :, 3:4], temporal=False)
    torch.testing.assert_close(pipe.decode(latents, temporal=False)[:, :, 3:4], one, rtol=1e-4, atol=1e-4)


def test_noise_belongs_to_seed_stage_and_video() -> None:
    draw = stage_noise(4, "keyframes", 2, "cpu")((2, 4, 3, 2, 2))
    assert torch.equal(stage_noise(5, "keyframes", 1, "cpu")((1, 4, 3, 2, 2))[0], draw[1])
    assert not torch.equal(stage_noise(4, "image", 1, "cpu")((1, 4, 3, 2, 2))[0], draw[0])
    big = stage_noise(2**64 - 1, "keyframes", 2, "cpu")((2, 64, 64))
    assert big.mean().abs() < 0.05
    assert big.std().item() == pytest.approx(1, abs=0.05)


def test_perturbation_adds_more_noise_at_higher_levels() -> None:
    schedule = TINY.interpolation_schedule
    frames = torch.full((1, 4, 2, 64, 64), 0.5)
    assert perturb(frames, 0, schedule, torch.randn) is frames
    errors = [(perturb(frames, level, schedule, torch.randn) - frames).std().item() for level in (1, 50, 250)]
    assert 0 < errors[0] < errors[1] < errors[2]


def test_one_frame_cannot_be_interpolated(pipe: FusionFramesPipeline) -> None:
    with pytest.raises(ValueError, match="latents must have at least 2 frames"):
        pipe.interpolate(torch.zeros(1, 4, 1, 4, 4))


def test_a_speed_is_its_passes(pipe: FusionFramesPipeline) -> None:
    assert torch.equal(pipe(PROMPT, fps="low").frames, pipe(PROMPT, passes=0).frames)
    assert pipe(PROMPT, fps="high").num_frames == 49
    with pytest.raises(ValueError, match="passes must be left out, or 2, with fps 'high'; got 0"):
        pipe(PROMPT, fps="high", passes=0)
    with pytest.raises(ValueError, match="fps must be one of low, medium, high; got '30'"):
        pipe(PROMPT, fps="30")


def test_videos_are_decoded_in_chunks_that_the_decoder_was_trained_with(pipe: FusionFramesPipeline) -> None:
    assert (KANDINSKY_VIDEO_1_1.movq.decode_chunk, KANDINSKY_VIDEO_1_0.movq.decode_chunk, TINY.movq.decode_chunk) == (
        *(8, 16, 16),
    )
    seen: list[int] = []
    pipe.decode(torch.zeros(1, 4, 40, 4, 4), callback=lambda done, total, x0: seen.append(total))
    assert set(seen) == {len(decode_windows("blended", 40, 16, 0 if pipe.movq.frames_are_independent else 4))}


def test_a_model_of_1_1_continues_an_image(pipe: FusionFramesPipeline, micro_config: ModelConfig) -> None:
    """Nine input channels, three predictions, a motion score: the keyframes depend on each."""
    torch.manual_seed(0)
    keyframe = dataclasses.replace(
        micro_config.keyframe, in_channels=9, image_input=True, motion_score=True, noise_augmentation=True
    )
    config = dataclasses.replace(micro_config, keyframe=keyframe, interpolation_text=True)
    parts = dataclasses.replace(pipe.parts, config=config, keyframe=type(pipe.keyframe)(keyframe).eval())
    official = FusionFramesPipeline(parts)
    base = official(PROMPT, passes=1)
    assert base.latents.shape == (1, 4, 13, 4, 4)
    for change in ({"motion": "extreme"}, {"image_guidance": 9.0}, {"noise_augmentation": 900}):
        assert not torch.allclose(official(PROMPT, passes=0, **change).latents, base.keyframe_latents, atol=1e-5)
