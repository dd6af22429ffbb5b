"""Laws of the samplers, of thresholding and of the denoising loop."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from fusionframes_core.config import ScheduleConfig
from fusionframes_core.sampling.callbacks import Stopped
from fusionframes_core.sampling.noise import cpu_noise
from fusionframes_core.sampling.sampler import SAMPLERS, Step, ddpm, denoise
from fusionframes_core.sampling.schedule import NoiseSchedule, prediction_target
from fusionframes_core.sampling.thresholding import threshold_x0

V_TRAILING = ScheduleConfig("cosine", 1000, False, "trailing", True, "v", None, "ddim", 20)
EPSILON_RESPACED = ScheduleConfig("cosine", 1000, True, "leading", False, "epsilon", 0.98, "ddpm", 50)
EPSILON_LEADING = ScheduleConfig("cosine", 1000, False, "leading", True, "epsilon", None, "ddpm", 50)
CONFIGS = {"v trailing": V_TRAILING, "epsilon respaced": EPSILON_RESPACED, "epsilon leading": EPSILON_LEADING}
SHAPE = (2, 4, 3, 4, 4)


def gaussian_model(schedule: NoiseSchedule, kind: str, std: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The exact network for data drawn from N(0, std²): its best x0 is α std² x / (α² std² + σ²)."""

    def predict(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule.alpha_sigma(t // schedule.time_scale)
        x0 = x * (alpha * std**2 / (alpha**2 * std**2 + sigma**2))[:, None, None, None, None]
        epsilon = (x - alpha[:, None, None, None, None] * x0) / sigma[:, None, None, None, None]
        return prediction_target(kind, x0, epsilon, alpha, sigma)

    return predict


def point_model(schedule: NoiseSchedule, kind: str, target: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The exact network when the data is one point."""

    def predict(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule.alpha_sigma(t // schedule.time_scale)
        epsilon = (x - alpha[:, None, None, None, None] * target) / sigma[:, None, None, None, None]
        return prediction_target(kind, target, epsilon, alpha, sigma)

    return predict


def noise_of(seed: int) -> Callable[[tuple[int, ...]], Tensor]:
    return cpu_noise(torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_a_perfect_model_of_one_point_finds_it(sampler: str, config: str, steps: int) -> None:
    settings = CONFIGS[config]
    schedule = NoiseSchedule.from_config(settings, steps)
    target = torch.rand(SHAPE, generator=torch.Generator().manual_seed(1)) * 1.6 - 0.8
    noise = noise_of(0)
    predict = point_model(schedule, settings.prediction, target)
    result = denoise(predict, noise(SHAPE), schedule, SAMPLERS[sampler], settings.prediction, noise)
    torch.testing.assert_close(result, target, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_data_distribution_comes_out(sampler: str) -> None:
    schedule = NoiseSchedule.from_config(V_TRAILING, 400)
    noise, std = noise_of(0), 0.2
    predict = gaussian_model(schedule, "v", std)
    result = denoise(predict, noise((1, 4, 4, 32, 32)), schedule, SAMPLERS[sampler], "v", noise)
    assert result.std().item() == pytest.approx(std, rel=0.05)
    assert abs(result.mean().item()) < 0.01


def _gaussian_error(sampler: str, steps: int) -> float:
    """Relative error of the end of the probability-flow path, which is std · x for Gaussian data."""
    config = dataclasses.replace(V_TRAILING, zero_terminal_snr=False)
    schedule = NoiseSchedule.from_config(config, steps)
    x = noise_of(0)(SHAPE)
    result = denoise(gaussian_model(schedule, "v", 0.2), x, schedule, SAMPLERS[sampler], "v", noise_of(1))
    return ((result - 0.2 * x).norm() / (0.2 * x).norm()).item()


def test_deterministic_samplers_converge_and_the_second_order_one_is_nearer() -> None:
    ddim = [_gaussian_error("ddim", steps) for steps in (10, 20, 40)]
    second = [_gaussian_error("dpmpp_2m", steps) for steps in (10, 20, 40)]
    assert ddim[0] > ddim[1] > ddim[2]
    assert ddim[2] < 0.1
    assert second[0] > second[1] > second[2]
    assert second[1] < ddim[1]
    assert second[2] < ddim[2]


def test_ddpm_is_the_posterior_of_the_forward_process() -> None:
    """Mean and variance by conditioning the joint Gaussian of (x_s, x_t) given x0, independent of the update's form."""
    alpha, alpha_next, x, x0 = 0.6, 0.9, 0.3, -0.4
    sigma, sigma_next = math.sqrt(1 - alpha**2), math.sqrt(1 - alpha_next**2)
    cov = (alpha / alpha_next) * sigma_next**2  # x_t = (α/α_next) x_s + independent noise
    mean = alpha_next * x0 + cov / sigma**2 * (x - alpha * x0)
    variance = sigma_next**2 - cov**2 / sigma**2
    step = Step(torch.full(SHAPE, x), torch.full(SHAPE, x0), alpha, sigma, alpha_next, sigma_next, None)
    torch.testing.assert_close(ddpm(step, torch.zeros), torch.full(SHAPE, mean))
    torch.testing.assert_close(ddpm(step, torch.ones), torch.full(SHAPE, mean + math.sqrt(variance)))


def test_a_seed_means_one_result_and_another_seed_another() -> None:
    schedule = NoiseSchedule.from_config(V_TRAILING, 5)
    predict = gaussian_model(schedule, "v", 0.3)
    runs = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed + 100 * len(runs))  # the global state must not matter
        noise = noise_of(seed)
        runs.append(denoise(predict, noise(SHAPE), schedule, SAMPLERS["ddpm"], "v", noise))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_the_network_sees_the_scaled_times_once_each() -> None:
    schedule = NoiseSchedule.from_config(EPSILON_RESPACED, 4)
    seen: list[int] = []

    def predict(x: Tensor, t: Tensor) -> Tensor:
        seen.extend(set(t.tolist()))
        return x

    noise = noise_of(0)
    denoise(predict, noise(SHAPE), schedule, SAMPLERS["ddpm"], "epsilon", noise, partial(threshold_x0, quantile=0.98))
    assert seen == [750, 500, 250, 0]


@pytest.mark.parametrize("way", ["raise", "return"])
def test_callback_counts_steps_and_stops_at_once(way: str) -> None:
    schedule = NoiseSchedule.from_config(V_TRAILING, 10)
    seen: list[tuple[int, int]] = []
    model = gaussian_model(schedule, "v", 0.3)
    calls: list[int] = []

    def predict(x: Tensor, t: Tensor) -> Tensor:
        calls.append(int(t[0]))
        return model(x, t)

    def callback(step: int, total: int, x0: Tensor) -> Stopped | None:
        assert x0.shape == SHAPE
        seen.append((step, total))
        if step < 3:
            return None
        if way == "raise":
            raise Stopped
        return Stopped()

    noise = noise_of(0)
    with pytest.raises(Stopped):
        denoise(predict, noise(SHAPE), schedule, SAMPLERS["ddim"], "v", noise, callback=callback)
    assert seen == [(1, 10), (2, 10), (3, 10)]
    assert len(calls) == 3


def test_thresholding_leaves_what_is_in_range_alone() -> None:
    x0 = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert torch.equal(threshold_x0(x0, None), x0)
    assert torch.equal(threshold_x0(x0, 0.98), x0)


def test_dynamic_thresholding_treats_each_frame_by_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randn(2, 4, 3, 8, 8, generator=generator) * torch.tensor([0.1, 2.0, 9.0])[None, None, :, None, None]
    result = threshold_x0(x0, 0.9)
    assert result.abs().max() <= 1.0
    for batch in range(2):
        for frame in range(3):
            alone = threshold_x0(x0[batch : batch + 1, :, frame : frame + 1], 0.9)
            assert torch.equal(result[batch, :, frame], alone[0, :, 0])
    assert torch.equal(result[:, :, 0], x0[:, :, 0])
    limit = torch.quantile(x0[0, :, 2].abs().flatten(), 0.9)
    torch.testing.assert_close(result[0, :, 2], (x0[0, :, 2] / limit).clamp(-1, 1))
