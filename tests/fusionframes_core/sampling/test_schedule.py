"""Laws of the noise schedules and of the prediction conversions."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from fusionframes_core.config import ScheduleConfig
from fusionframes_core.sampling.schedule import (
    PREDICTIONS,
    SCHEDULES,
    NoiseSchedule,
    add_noise,
    prediction_target,
    rescale_zero_terminal_snr,
    sampling_times,
    to_epsilon,
    to_x0,
)

CONFIG = ScheduleConfig(
    schedule="cosine",
    train_steps=1000,
    respaced=False,
    spacing="trailing",
    zero_terminal_snr=True,
    prediction="v",
    threshold_quantile=None,
    sampler="ddim",
    steps=20,
)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 4, 50, 1000])
def test_betas_are_probabilities_and_noise_grows(name: str, steps: int) -> None:
    betas = SCHEDULES[name](steps)
    alphas_cumprod = NoiseSchedule(betas).alphas_cumprod
    assert betas.shape == (steps,)
    assert betas.dtype == torch.float64
    assert (betas > 0).all()
    assert (betas <= 0.999).all()
    assert (alphas_cumprod.diff() < 0).all()


def test_cosine_follows_its_formula() -> None:
    """ᾱ_t = f(t) / f(0) wherever no beta was capped (arXiv 2102.09672, eq. 17)."""
    schedule = NoiseSchedule(SCHEDULES["cosine"](1000))
    u = torch.arange(1, 991, dtype=torch.float64) / 1000
    expected = torch.cos((u + 0.008) / 1.008 * torch.pi / 2) ** 2
    expected = expected / torch.cos(torch.tensor(0.008 / 1.008 * torch.pi / 2, dtype=torch.float64)) ** 2
    torch.testing.assert_close(schedule.alphas_cumprod[:990], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("steps", [2, 10, 1000])
def test_zero_terminal_snr_ends_in_pure_noise_and_keeps_the_first_step(steps: int) -> None:
    plain = SCHEDULES["cosine"](steps)
    rescaled = NoiseSchedule(rescale_zero_terminal_snr(plain))
    assert rescaled.alphas_cumprod[-1] == 0
    torch.testing.assert_close(rescaled.alphas_cumprod[0], NoiseSchedule(plain).alphas_cumprod[0])
    assert (rescaled.alphas_cumprod.diff() < 0).all()


def test_zero_terminal_snr_of_one_step_is_pure_noise() -> None:
    assert NoiseSchedule(rescale_zero_terminal_snr(SCHEDULES["cosine"](1))).alphas_cumprod.tolist() == [0.0]


@pytest.mark.parametrize("steps", [1, 4, 7, 10, 20, 50, 300, 1000])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_times_descend_inside_the_training_range(steps: int, spacing: str) -> None:
    times = sampling_times(1000, steps, spacing)
    assert len(times) == steps == len(set(times))
    assert list(times) == sorted(times, reverse=True)
    assert times[0] <= 999
    assert times[-1] >= 0
    assert times[-1] == 0 if spacing == "leading" else times[0] == 999


def test_times_are_those_of_the_reference_schedulers() -> None:
    assert sampling_times(1000, 4, "leading") == (750, 500, 250, 0)
    assert sampling_times(1000, 4, "trailing") == (999, 749, 499, 249)
    assert sampling_times(1000, 10, "trailing") == (999, 899, 799, 699, 599, 499, 399, 299, 199, 99)


def test_respaced_schedule_is_rebuilt_and_scales_the_network_time() -> None:
    config = dataclasses.replace(CONFIG, respaced=True, zero_terminal_snr=False, prediction="epsilon")
    schedule = NoiseSchedule.from_config(config, steps=50)
    torch.testing.assert_close(schedule.betas, SCHEDULES["cosine"](50))
    assert [schedule.network_time(t) for t in schedule.times[:2]] == [980, 960]
    assert NoiseSchedule.from_config(config).num_steps == 1000


def test_training_schedule_covers_every_time() -> None:
    schedule = NoiseSchedule.from_config(CONFIG)
    assert schedule.times == tuple(range(999, -1, -1))
    assert schedule.time_scale == 1


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_conversions_return_what_was_noised(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randn(5, 4, 3, 2, 2, generator=generator)
    noise = torch.randn(5, 4, 3, 2, 2, generator=generator)
    alpha, sigma = NoiseSchedule.from_config(CONFIG).alpha_sigma(torch.tensor([0, 10, 400, 700, 900]))
    x = add_noise(x0, noise, alpha, sigma)
    output = prediction_target(kind, x0, noise, alpha, sigma)
    torch.testing.assert_close(to_x0(kind, output, x, alpha, sigma), x0, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(to_epsilon(kind, output, x, alpha, sigma), noise, rtol=1e-3, atol=2e-3)


def test_alpha_and_sigma_are_on_the_unit_circle() -> None:
    alpha, sigma = NoiseSchedule.from_config(CONFIG).alpha_sigma(torch.arange(1000))
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(1000))


def test_v_is_finite_at_zero_signal_and_epsilon_says_why_it_is_not() -> None:
    x, output = torch.randn(2, 4), torch.randn(2, 4)
    alpha, sigma = NoiseSchedule.from_config(CONFIG).alpha_sigma(torch.tensor([999, 999]))
    assert (alpha == 0).all()
    torch.testing.assert_close(to_x0("v", output, x, alpha, sigma), -output)
    torch.testing.assert_close(to_epsilon("v", output, x, alpha, sigma), x)
    with pytest.raises(ValueError, match="alpha = 0"):
        to_x0("epsilon", output, x, alpha, sigma)
    with pytest.raises(ValueError, match="sigma = 0"):
        to_epsilon("x0", output, x, sigma, alpha)


@pytest.mark.parametrize(
    ("change", "steps", "message"),
    [
        ({}, 0, "steps must be between 1 and 1000; got 0"),
        ({}, 1001, "steps must be between 1 and 1000; got 1001"),
        ({"schedule": "quartic"}, 4, "schedule must be one of cosine, linear; got 'quartic'"),
        ({"prediction": "w"}, 4, "prediction must be one of epsilon, v, x0; got 'w'"),
        ({"spacing": "middle"}, 4, "spacing must be one of leading, trailing; got 'middle'"),
        ({"prediction": "epsilon"}, 4, "cannot start at zero terminal SNR"),
    ],
)
def test_bad_schedules_are_refused_in_words(change: dict[str, str], steps: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NoiseSchedule.from_config(dataclasses.replace(CONFIG, **change), steps=steps)
