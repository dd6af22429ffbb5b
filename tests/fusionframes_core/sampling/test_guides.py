"""Given keyframes and video to video: laws of what is held, and of a denoising that begins with a video."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fusionframes_core.config import ScheduleConfig
from fusionframes_core.given_keyframes import Beginning
from fusionframes_core.presets import KANDINSKY_VIDEO_1_1, TINY
from fusionframes_core.sampling.guides import Guide, hold_frames, place_of
from fusionframes_core.sampling.noise import stage_noise
from fusionframes_core.sampling.options import SamplingOptions
from fusionframes_core.sampling.sampler import SAMPLERS
from fusionframes_core.sampling.schedule import NoiseSchedule
from fusionframes_core.sampling.stage_sampler import Given, StageSampler
from fusionframes_core.settings import GenerationSettings

SHAPE = (2, 4, 7, 4, 4)


def frame(value: float) -> Tensor:
    return torch.full((1, 4, 1, 4, 4), value)


def schedules() -> list[ScheduleConfig]:
    return [TINY.keyframe_schedule, KANDINSKY_VIDEO_1_1.keyframe_schedule]


def sampled(config: ScheduleConfig, given: Given | None = None, sampler: str = "ddim", **options: float) -> Tensor:
    """A denoising by a network that predicts zeros."""
    asked = SamplingOptions(**{"steps": 6, "guidance": 0.0, "sampler": sampler, **options})
    stage = StageSampler(config, asked, stage_noise(5, "test", SHAPE[0], "cpu"))
    return stage.sample(lambda x, t: torch.zeros_like(x), SHAPE, given=given)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("config", schedules(), ids=["tiny", "1.1"])
def test_a_full_guide_comes_out_as_it_is(config: ScheduleConfig, sampler: str) -> None:
    """At its place, for every video; the others are what they were, because this network sees each alone."""
    held = hold_frames([Guide(frame(0.3), 2), Guide(frame(-0.4), -1)], SHAPE[2])
    plain, result = (sampled(config, given, sampler) for given in (None, Given(held=held)))
    assert torch.allclose(result[:, :, 2], torch.tensor(0.3), atol=1e-6)
    assert torch.allclose(result[:, :, 6], torch.tensor(-0.4), atol=1e-6)
    others = [0, 1, 3, 4, 5]
    assert torch.equal(result[:, :, others], plain[:, :, others])


def test_the_network_sees_held_frames_at_the_level_of_the_step() -> None:
    """In each step α·guide + σ·noise, with the noise that sampling began with; let go, it is the network's."""
    config, seen = TINY.keyframe_schedule, []
    noise = stage_noise(5, "test", SHAPE[0], "cpu")
    begun = stage_noise(5, "test", SHAPE[0], "cpu")(SHAPE)
    held = hold_frames([Guide(frame(0.3), 1, strength=0.5)], SHAPE[2])
    stage = StageSampler(config, SamplingOptions(6, 0.0, "ddim"), noise)

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen.append((x[:, :, 1].clone(), int(t[0])))
        return torch.zeros_like(x)

    result = stage.sample(network, SHAPE, given=Given(held=held))
    schedule = NoiseSchedule.from_config(config, 6)
    for x, time in seen[:3]:
        alpha, sigma = schedule.level(time // schedule.time_scale)
        assert torch.allclose(x, alpha * 0.3 + sigma * begun[:, :, 1], atol=1e-5)
    assert not torch.allclose(result[:, :, 1], torch.tensor(0.3), atol=1e-3)


def test_pull_fades_with_the_distance() -> None:
    """Blends between the guides are linear in time, and held for less the further from a guide."""
    held = hold_frames([Guide(frame(0.0), 0, pull=0.4), Guide(frame(1.0), 6, pull=0.8)], 7)
    assert torch.allclose(held.latents[0, 0, :, 0, 0], torch.linspace(0, 1, 7))
    shares = held.shares.tolist()
    assert shares[0] == shares[6] == 1
    assert 0.4 > shares[1] > shares[2] > shares[3] > 0
    assert 0.8 > shares[5] > shares[4] > 0
    lone = hold_frames([Guide(frame(1.0), 2, pull=0.5)], 7).shares.tolist()
    assert lone[3] > lone[4] > lone[5] > lone[6] > 0
    assert hold_frames([Guide(frame(1.0), 2)], 7).shares.count_nonzero() == 1


def test_the_later_of_two_guides_in_one_place_counts() -> None:
    held = hold_frames([Guide(frame(0.0), 6), Guide(frame(1.0), -1)], 7)
    assert held.latents[0, 0, 6, 0, 0] == 1


@pytest.mark.parametrize("config", schedules(), ids=["tiny", "1.1"])
def test_denoise_takes_the_last_steps(config: ScheduleConfig) -> None:
    """Of steps / denoise; x begins as the video at that level, and a network that knows it gives it back."""
    video, times = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)).clamp(-1, 1), []

    def run(denoise: float) -> tuple[Tensor, list[int]]:
        times.clear()
        stage = StageSampler(config, SamplingOptions(4, 0.0, "ddim", denoise), stage_noise(5, "t", 2, "cpu"))
        first: list[Tensor] = []

        def network(x: Tensor, t: Tensor) -> Tensor:
            times.append(int(t[0]))
            first.append(x)
            return torch.zeros_like(x)

        stage.sample(network, SHAPE, given=Given(video))
        return first[0], list(times)

    gaps = []
    for denoise in (0.25, 0.5, 1.0):
        x, seen = run(denoise)
        assert len(seen) == 4
        gaps.append(float((x - video).abs().mean()))
    assert gaps == sorted(gaps)
    assert gaps[0] < 0.6 * gaps[2]


def test_shares_and_places_are_checked() -> None:
    for name in ("strength", "pull"):
        with pytest.raises(ValueError, match=f"{name} of a guide must be from 0 to 1; got 1.5"):
            Guide(frame(0), 0, **{name: 1.5})
    assert place_of(Guide(frame(0), -1), 7) == 6
    for index in (7, -8):
        with pytest.raises(ValueError, match="index of a guide must be from 0 to 6, or from -7 to -1"):
            hold_frames([Guide(frame(0), index)], 7)
    with pytest.raises(ValueError, match="guides must have latents of one size"):
        hold_frames([Guide(frame(0), 0), Guide(torch.zeros(1, 4, 1, 8, 8), 1)], 7)


def test_a_beginning_fits_the_model() -> None:
    """Size and length are the video's; what does not fit is a sentence that names it."""
    video = torch.zeros(1, 4, 5, 8, 16)
    settings = Beginning(video).shaped(GenerationSettings(denoise=0.5, steps=10), TINY).resolve(TINY)
    assert (settings.num_frames, settings.size) == (5, (64, 128))
    assert Beginning(video).given(settings, TINY, 3).video is video
    wrong = GenerationSettings(num_frames=6, size=(64, 128)).resolve(TINY)
    with pytest.raises(ValueError, match=r"latents must be \(1, 4, 6, 8, 16\) for this video"):
        Beginning(video).given(wrong, TINY, 1)
    with pytest.raises(ValueError, match="denoise must be 1 where no video is given"):
        Beginning().given(settings, TINY, 1)
    other = GenerationSettings().resolve(KANDINSKY_VIDEO_1_1)
    with pytest.raises(ValueError, match="guides must be left out"):
        Beginning(guides=[Guide(frame(0), 0)]).given(other, KANDINSKY_VIDEO_1_1, 1)
    for denoise in (0.0, -1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="denoise must be above 0 and at most 1"):
            GenerationSettings(denoise=denoise).resolve(TINY)
    with pytest.raises(ValueError, match=r"denoise must be at least 0\.1 for 100 steps"):
        GenerationSettings(denoise=0.05, steps=100).resolve(TINY)
