"""Which keyframes the interpolation objective gives the model, and that its validation is always the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fusionframes_core.models.text_encoder import TextContext
from fusionframes_core.models.unet.interpolation_unet import InterpolationCondition
from fusionframes_core.presets import TINY
from training.data.sources import Drawn
from training.objectives.denoising import NoiseLevels
from training.objectives.held_out import HeldOutLoss
from training.objectives.interpolation_objective import InterpolationObjective, KeyframeDropout


class RandomWindows:
    """A source of noise."""

    def windows(self, rng: np.random.Generator, count: int, num_frames: int) -> Drawn:
        """Latents and a skip of 3."""
        latents = torch.from_numpy(rng.normal(size=(count, 4, num_frames, 2, 2))).float()
        return Drawn(latents, lambda rng: self.null_context(), torch.full((count,), 3))

    def null_context(self) -> TextContext:
        """One token of zeros."""
        return TextContext(torch.zeros(1, 1, 4), torch.ones(1, 1, dtype=torch.bool))


class Spy(nn.Module):
    """Predicts nothing and keeps its last condition."""

    condition: InterpolationCondition

    def forward(self, x: Tensor, t: Tensor, condition: InterpolationCondition) -> Tensor:
        """Zeros of x's shape."""
        self.condition = condition
        return torch.zeros_like(x)


def objective(dropout: KeyframeDropout | None) -> InterpolationObjective:
    source: Any = RandomWindows()
    return InterpolationObjective(TINY, source, 16, NoiseLevels(0.3), dropout=dropout, window=9)


def test_without_dropout_every_clip_has_its_keyframes() -> None:
    """As with shares of zero; only that no noise is drawn for keyframes, which are not perturbed."""
    plain, never = objective(None), objective(KeyframeDropout(0.0, 0.0))
    batch, other = (entry.make_batch(np.random.default_rng(0)) for entry in (plain, never))
    assert set(other) - set(batch) == {"perturbation", "conditional"}
    assert all(torch.equal(batch[name], other[name]) for name in batch)
    spy, keyframes = Spy(), batch["video"][:, :, ::4]
    for entry, given in ((plain, batch), (never, other)):
        entry.loss(spy, given)
        assert torch.equal(spy.condition.keyframes, keyframes)
        assert spy.condition.temporal.all()
        assert not spy.condition.perturbation.any()


def test_dropout_takes_keyframes_away_and_perturbs_them() -> None:
    entry, spy = objective(KeyframeDropout(0.5, 0.5)), Spy()
    batch = entry.make_batch(np.random.default_rng(0))
    entry.loss(spy, batch)
    dropped, kept = ~batch["conditional"], batch["conditional"] & (batch["perturbation"] == 0)
    assert 0 < int(dropped.sum()) < 16
    assert int(kept.sum()) > 0
    assert not spy.condition.keyframes[dropped].any()
    assert torch.equal(spy.condition.keyframes[kept], batch["video"][:, :, ::4][kept])


def test_validation_is_the_same_every_time() -> None:
    measure = HeldOutLoss(objective(KeyframeDropout(0.0, 0.0)), 16, lambda model: {"gap": 0.5})
    torch.manual_seed(7)
    first = measure(Spy())
    assert first["val_gap"] == 0.5
    assert measure(Spy()) == first


@pytest.mark.parametrize("at_once", [1, 5, 16])
def test_validation_in_parts_is_the_mean_of_all_clips(at_once: int) -> None:
    """However many go through the model together: 16 clips, whose noise the law of large numbers makes alike."""
    seen: list[int] = []

    class Counting(Spy):
        def forward(self, x: Tensor, t: Tensor, condition: InterpolationCondition) -> Tensor:
            seen.append(len(x))
            assert len(condition.keyframes) == len(condition.skip_frames) == len(t) == len(x)
            return x

    found = HeldOutLoss(objective(KeyframeDropout(0.0, 0.0)), at_once)(Counting())
    assert sum(seen) == 16
    assert max(seen) == at_once
    assert found["val_loss"] == pytest.approx(HeldOutLoss(objective(None), 16)(Counting())["val_loss"], rel=0.2)


def test_a_base_is_checked_at_once() -> None:
    with pytest.raises(ValueError, match="base must be one of zero, blend; got 'foo'"):
        replace(objective(None), base="foo")
    with pytest.raises(ValueError, match="perturbed_share must be from 0 to 1; got 7"):
        KeyframeDropout(7)
