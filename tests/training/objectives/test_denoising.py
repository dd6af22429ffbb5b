"""The denoising loss: what its options weigh, and that without them it is the plain squared error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fusionframes_core.presets import TINY
from fusionframes_core.sampling.schedule import NoiseSchedule, add_noise, prediction_target
from training.objectives.denoising import NoiseLevels, denoising_loss, unsteadiness
from training.objectives.keyframe_objective import KeyframeObjective

SCHEDULE = NoiseSchedule.from_config(TINY.keyframe_schedule)
T = torch.tensor([100, 900])


def loss_of(error: Tensor, **weights: float) -> float:
    """The loss of a model that is off by `error` (2, 4, T, h, w) from the target of v."""
    x0 = torch.zeros_like(error)

    def predict(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = SCHEDULE.alpha_sigma(t)
        noise = x / sigma.reshape(-1, 1, 1, 1, 1)
        assert torch.allclose(add_noise(x0, noise, alpha, sigma), x)
        return prediction_target("v", x0, noise, alpha, sigma) + error

    loss, _ = denoising_loss(predict, x0, T, SCHEDULE, "v", **weights)
    return loss.item()


def test_an_error_that_all_frames_share_is_steady() -> None:
    """So is one that no frame has in the mean; a level of its own in each frame is not, whatever its place."""
    generator = torch.Generator().manual_seed(0)
    one_frame = torch.randn(2, 4, 1, 8, 8, generator=generator).expand(-1, -1, 16, -1, -1)
    noise = torch.randn(2, 4, 16, 8, 8, generator=generator)
    levels = torch.randn(2, 4, 16, 1, 1, generator=generator)
    wanted = levels[..., 0, 0].var(dim=2, correction=0).mean(dim=1)
    assert unsteadiness(one_frame).abs().max() < 1e-12
    assert unsteadiness(noise - noise.mean(dim=(3, 4), keepdim=True)).abs().max() < 1e-12
    assert torch.allclose(unsteadiness(one_frame + levels.expand(-1, -1, -1, 8, 8)), wanted, rtol=1e-4)
    turned = noise.flip(2).transpose(3, 4)
    assert torch.allclose(unsteadiness(turned), unsteadiness(noise))


def test_the_loss_counts_unsteadiness_so_many_times() -> None:
    """On top of the squared error, with its weight for the noise level; 0, the default, leaves the loss as it was."""
    levels = torch.randn(2, 4, 16, 1, 1, generator=torch.Generator().manual_seed(1)).expand(-1, -1, -1, 8, 8)
    for least_weight in (0.1, 1.0):
        scale = SCHEDULE.alpha_sigma(T)[1].square().clamp(min=least_weight)
        plain = loss_of(levels, least_weight=least_weight)
        extra = (unsteadiness(levels) * scale).mean().item()
        assert plain == pytest.approx((levels.square().flatten(1).mean(dim=1) * scale).mean().item(), rel=1e-4)
        assert loss_of(levels, least_weight=least_weight, steady_weight=0.0) == plain
        assert loss_of(levels, least_weight=least_weight, steady_weight=40.0) == pytest.approx(
            plain + 40 * extra, rel=1e-4
        )
    shared = levels[:, :, :1].expand(-1, -1, 16, -1, -1)
    assert loss_of(shared, steady_weight=40.0) == pytest.approx(loss_of(shared), rel=1e-5)


def test_figures_name_unsteadiness_only_where_it_counts() -> None:
    x0 = torch.zeros(2, 4, 3, 4, 4)
    for weight, names in ((0.0, {"loss_low", "loss_high"}), (1.0, {"loss_low", "loss_high", "unsteadiness"})):
        _, figures = denoising_loss(lambda x, t: x, x0, T, SCHEDULE, "v", steady_weight=weight)
        assert figures.keys() == names


def test_a_weight_below_zero_is_one_sentence() -> None:
    for weight in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="steady_weight must be at least 0; got"):
            KeyframeObjective(TINY, None, 1, NoiseLevels(), steady_weight=weight)


@pytest.mark.parametrize(("high", "low"), [(0.0, 0.0), (0.7, 0.0), (0.0, 0.5), (0.2, 0.6), (1.0, 0.0), (0.0, 1.0)])
def test_shares_of_the_noise_levels(high: float, low: float) -> None:
    """What is not drawn from one half alone is spread over all times; each half's share follows."""
    drawn = NoiseLevels(high, low).draw(np.random.default_rng(0), 20_000, 1000)
    assert int(drawn.min()) >= 0
    assert int(drawn.max()) < 1000
    assert (drawn >= 500).double().mean().item() == pytest.approx(high + (1 - high - low) / 2, abs=0.015)
    assert (drawn < 250).double().mean().item() == pytest.approx(low / 2 + (1 - high - low) / 4, abs=0.015)


def test_a_share_of_the_last_time() -> None:
    """Where sampling of one step begins and ends; the other shares stay theirs."""
    drawn = NoiseLevels(0.2, 0.1, 0.4).draw(np.random.default_rng(0), 20_000, 1000)
    assert (drawn == 999).double().mean().item() == pytest.approx(0.4, abs=0.01)
    assert (drawn < 500).double().mean().item() == pytest.approx(0.1 + 0.3 / 2, abs=0.015)
    assert int(NoiseLevels(last_share=1.0).draw(np.random.default_rng(0), 100, 1000).min()) == 999


def test_shares_of_more_than_all_noise_levels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"at most 1 together; got high_share 0\.6 and low_share 0\.5"):
        NoiseLevels(0.6, 0.5)
    with pytest.raises(ValueError, match=r"at most 1 together; got high_share 0\.6 and last_share 0\.5"):
        NoiseLevels(0.6, last_share=0.5)
    with pytest.raises(ValueError, match="low_share must be from 0 to 1; got"):
        NoiseLevels(0.0, -0.1)
