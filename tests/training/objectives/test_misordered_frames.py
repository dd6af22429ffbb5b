"""Training on noisy inputs whose frames are in a wrong order: what is shown, and what still has to be found."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from fusionframes_core.models.text_encoder import TextContext
from fusionframes_core.presets import TINY
from fusionframes_core.sampling.schedule import NoiseSchedule, add_noise, to_x0
from training.data.sources import Drawn
from training.objectives.denoising import NoiseLevels, denoising_loss
from training.objectives.keyframe_objective import MISORDERED_FROM, KeyframeObjective, wandering_order

SCHEDULE = NoiseSchedule.from_config(TINY.keyframe_schedule)
CLIPS = 400


class NumberedFrames:
    """Clips whose frame f of clip c is c + f / 100 everywhere."""

    def keyframes(self, rng: np.random.Generator, count: int, num_frames: int) -> Drawn:
        """(count, 4, num_frames, 2, 2)."""
        numbers = torch.arange(count)[:, None] + torch.arange(num_frames)[None] / 100
        latents = numbers[:, None, :, None, None].expand(-1, 4, -1, 2, 2)
        text = TextContext(torch.zeros(count, 1, 4), torch.ones(count, 1, dtype=torch.bool))
        return Drawn(latents, lambda rng: text, torch.full((count,), 12))


def batch_of(share: float) -> dict[str, Tensor]:
    objective = KeyframeObjective(TINY, NumberedFrames(), CLIPS, NoiseLevels(), 0.1, misordered_share=share)
    return dict(objective.make_batch(np.random.default_rng(0)))


def test_a_wandering_order_goes_on_by_few_frames_both_ways() -> None:
    rng = np.random.default_rng(0)
    ways = set()
    for _ in range(50):
        order = wandering_order(rng, 16)
        assert set(order.tolist()) <= set(range(16))
        steps = (order.diff() + 8) % 16 - 8
        assert steps.abs().max() <= 2
        ways |= set(steps.sign().tolist())
    assert ways == {-1, 0, 1}
    assert wandering_order(rng, 1).tolist() == [0]


def test_frames_of_the_same_clip_are_shown_at_noisy_times_alone() -> None:
    batch = batch_of(0.5)
    latents, shown = batch["latents"], batch["shown"]
    changed = (shown != latents).flatten(1).any(dim=1)
    noisy = batch["t"] >= MISORDERED_FROM * SCHEDULE.num_steps
    assert not changed[~noisy].any()
    assert changed[noisy].double().mean().item() == pytest.approx(0.5, abs=0.1)
    assert torch.equal(shown.floor(), latents.floor()), "of the same clip"
    assert torch.equal(shown.amax((1, 3, 4)), shown.amin((1, 3, 4))), "whole frames"


def test_without_a_share_nothing_else_is_drawn() -> None:
    plain, shown = batch_of(0.0), batch_of(1.0)
    assert "shown" not in plain
    assert torch.equal(plain["t"], shown["t"])
    assert torch.equal(plain["latents"], shown["latents"])


@pytest.mark.parametrize("kind", ["v", "epsilon"])
def test_the_true_latents_have_to_be_found_whatever_is_shown(kind: str) -> None:
    """A model that answers x0 has no error, one that answers what it is shown has; x_t are noised of what is shown."""
    generator = torch.Generator().manual_seed(0)
    x0, shown = torch.randn(2, 2, 4, 3, 4, 4, generator=generator)
    t = torch.tensor([500, 950])
    alpha, sigma = SCHEDULE.alpha_sigma(t)
    seen: list[Tensor] = []

    def answering(answer: Tensor, x: Tensor, t: Tensor) -> Tensor:
        seen.append(x)
        scale = alpha.reshape(-1, 1, 1, 1, 1), sigma.reshape(-1, 1, 1, 1, 1)
        noise = (x - scale[0] * answer) / scale[1]
        return noise if kind == "epsilon" else scale[0] * noise - scale[1] * answer

    losses = []
    for answer in (x0, shown):
        torch.manual_seed(0)
        losses.append(denoising_loss(partial(answering, answer), x0, t, SCHEDULE, kind, shown=shown)[0].item())
    assert losses[0] == pytest.approx(0, abs=1e-9)
    assert losses[1] > 0.1
    torch.manual_seed(0)
    assert torch.allclose(seen[0], add_noise(shown, torch.randn_like(x0), alpha, sigma), atol=1e-5)
    right = answering(x0, seen[0], t)
    assert torch.allclose(to_x0(kind, right, seen[0], alpha, sigma), x0, atol=1e-4)


def test_a_share_that_is_none_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="misordered_share must be from 0 to 1; got"):
        KeyframeObjective(TINY, NumberedFrames(), 1, NoiseLevels(), misordered_share=1.5)
