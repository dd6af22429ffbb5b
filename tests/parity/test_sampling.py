"""Whole sampling chains against the official code's numbers (float32, CPU): schedule, guidance, limits, sampler."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from fusionframes_core.config import ModelConfig, ScheduleConfig
from fusionframes_core.models.text_encoder import TextContext, null_context
from fusionframes_core.models.unet.interpolation_unet import split_groups
from fusionframes_core.presets import KANDINSKY_VIDEO_1_0, KANDINSKY_VIDEO_1_1
from fusionframes_core.sampling.first_frame import FirstFrame
from fusionframes_core.sampling.interpolation_sampling import interpolate
from fusionframes_core.sampling.keyframe_sampling import sample_keyframes, sample_keyframes_from_image
from fusionframes_core.sampling.noise import NoiseSource
from fusionframes_core.sampling.options import ContextPair, InterpolationOptions, SamplingOptions
from fusionframes_core.sampling.schedule import NoiseSchedule, add_noise
from fusionframes_core.sampling.stage_sampler import StageSampler
from tests.helpers.parity_cases import FOLDER, Case, as_video, assert_agrees, cases, official_model, read_case

TOLERANCE = 1e-3
PRESETS = {"1.0": KANDINSKY_VIDEO_1_0, "1.1": KANDINSKY_VIDEO_1_1}


def model_of(case: Case) -> Any:
    return official_model(read_case(FOLDER / f"{case.config['weights_in']}.safetensors"))


def preset(case: Case) -> ModelConfig:
    return PRESETS[case.version]


def schedule_of(case: Case, schedule: ScheduleConfig) -> ScheduleConfig:
    """The preset's, with what the case says of it."""
    names = {"schedule": "schedule", "percentile": "threshold_quantile"}
    changes = {ours: case.config[theirs] for theirs, ours in names.items() if theirs in case.config}
    schedule = dataclasses.replace(schedule, **changes)
    if "timesteps" in case.config:
        assert list(NoiseSchedule.from_config(schedule, case.config["steps"]).times) == case.config["timesteps"]
    if "prediction" in case.config:
        assert schedule.prediction == case.config["prediction"]
    return schedule


def recorded(noises: Tensor) -> NoiseSource:
    """The case's draws, one after another."""
    draws = iter(noises)

    def draw(shape: tuple[int, ...]) -> Tensor:
        noise = as_video(next(draws))
        assert tuple(noise.shape) == shape
        return noise

    return draw


def contexts(case: Case) -> ContextPair:
    """The prompt's context (the null context where the case has none) and the null context of its length."""
    null = case.weights["null_embedding"].flatten()
    if "in/context" not in case.tensors:
        return ContextPair(null_context(null, 1, 2), null_context(null, 1, 2))
    text = TextContext(case.tensors["in/context"], case.tensors["in/context_mask"].bool())
    return ContextPair(text, null_context(null, 1, text.mask.shape[1]))


@pytest.mark.parametrize("case", cases("keyframe sampling"), ids=lambda case: case.name)
def test_keyframes(case: Case) -> None:
    given, settings, noises = case.tensors, case.config, case.tensors["in/noises"]
    schedule = schedule_of(case, preset(case).keyframe_schedule)
    if "in/keyframe" not in given:
        positions, size = given["in/temporal_positions"][None], (noises.shape[-2], noises.shape[-1])
        options = SamplingOptions(settings["steps"], settings["guidance"])
        sampler = StageSampler(schedule, options, recorded(noises))
        video = sample_keyframes(model_of(case), contexts(case), positions, size, sampler)
    else:
        level = torch.tensor(settings["noise_augmentation"])
        alpha, sigma = NoiseSchedule.from_config(schedule).alpha_sigma(level)
        still, drawn = (given[f"in/{name}"][None, :, None] for name in ("keyframe", "keyframe_noise"))
        noisy = add_noise(still, drawn, alpha, sigma)
        first = FirstFrame(noisy, settings["motion_score"], settings["noise_augmentation"])
        positions = torch.arange(noises.shape[1], dtype=torch.float32)[None]
        sampler = StageSampler(
            schedule, SamplingOptions(settings["steps"], settings["guidance_prompt"]), recorded(noises)
        )
        video = sample_keyframes_from_image(
            model_of(case), contexts(case), positions, first, settings["guidance_image"], sampler
        )
    assert_agrees(video, case.video("out/latents"), TOLERANCE)


@pytest.mark.parametrize("case", cases("interpolation sampling"), ids=lambda case: case.name)
def test_interpolation(case: Case) -> None:
    settings = case.config
    schedule = schedule_of(case, preset(case).interpolation_schedule)
    options = SamplingOptions(settings["steps"], settings["guidance"])
    video = interpolate(
        model_of(case),
        case.video("in/keyframes"),
        contexts(case),
        InterpolationOptions(settings["skip_frames"], settings["perturbation"]),
        StageSampler(schedule, options, recorded(case.tensors["in/noises"])),
        drop_temporal=preset(case).drop_temporal,
    )
    keyframes, groups = split_groups(video)
    assert torch.equal(keyframes, case.video("in/keyframes"))
    assert_agrees(groups, case.video("out/groups"), TOLERANCE)
    if "out/video" in case.tensors:
        assert_agrees(video, case.video("out/video"), TOLERANCE)
