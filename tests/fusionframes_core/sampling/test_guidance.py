"""Laws of guidance values and of joining conditions."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from fusionframes_core.sampling.guidance import (
    ContextGuidance,
    GuidedModel,
    NoGuidance,
    TextGuidance,
    TextImageGuidance,
    join_conditions,
)


@dataclass(frozen=True)
class Condition:
    context: Tensor
    mask: Tensor
    shift: Tensor
    positions: Tensor | None = None
    image: bool = False


class Recorder(nn.Module):
    """A network that is linear in its condition, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(2.0))
        self.batches: list[int] = []

    def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        self.batches.append(x.shape[0])
        return self.gain * x[:, :4] + condition.shift[:, None, None, None, None] + t[:, None, None, None, None]


def condition(shift: float, tokens: int = 3, batch: int = 2) -> Condition:
    mask = torch.ones(batch, tokens, dtype=torch.bool)
    return Condition(torch.randn(batch, tokens, 5), mask, torch.full((batch,), shift))


GUIDANCES = [NoGuidance(), TextGuidance(3.0), ContextGuidance(0.25), TextImageGuidance(5.0, 2.0)]


@pytest.mark.parametrize("guidance", GUIDANCES)
def test_equal_predictions_are_left_alone(guidance: TextGuidance) -> None:
    prediction = torch.randn(2, 4, 3, 2, 2)
    combined = guidance.combine([prediction] * len(guidance.batches))
    torch.testing.assert_close(combined, prediction)


def test_text_guidance_is_upstreams_convention() -> None:
    c, u = torch.randn(2, 4), torch.randn(2, 4)
    torch.testing.assert_close(TextGuidance(5.0).combine([c, u]), 6.0 * c - 5.0 * u)
    torch.testing.assert_close(ContextGuidance(0.25).combine([c, u]), 1.25 * c - 0.25 * u)


def test_weight_zero_needs_one_prediction() -> None:
    assert TextGuidance(0.0).batches == NoGuidance().batches
    c = torch.randn(3)
    assert torch.equal(TextGuidance(0.0).combine([c]), c)


def test_text_image_guidance_of_equal_weights_ignores_the_middle() -> None:
    c, i, u = torch.randn(3, 2, 4)
    torch.testing.assert_close(TextImageGuidance(3.0, 3.0).combine([c, i, u]), u + 3.0 * (c - u))
    torch.testing.assert_close(TextImageGuidance(0.0, 1.0).combine([c, i, u]), i)


def test_text_image_guidance_is_upstreams_formula() -> None:
    c, i, u = torch.randn(3, 2, 4)
    expected = (1 - 3.0) * u + (3.0 - 5.0) * i + 5.0 * c
    torch.testing.assert_close(TextImageGuidance(5.0, 3.0).combine([c, i, u]), expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="weight must be a finite number"):
        TextGuidance(value)
    with pytest.raises(ValueError, match="image_weight must be a finite number"):
        TextImageGuidance(1.0, value)


def test_joint_and_separate_batches_agree() -> None:
    x, t = torch.randn(2, 4, 3, 2, 2), torch.tensor([7, 7])
    conditions = [condition(1.0), condition(-1.0, tokens=2)]
    joint, separate = Recorder(), Recorder()
    together = GuidedModel(joint, TextGuidance(2.0), conditions)(x, t)
    apart = GuidedModel(separate, TextGuidance(2.0), conditions, joint=False)(x, t)
    torch.testing.assert_close(together, apart)
    torch.testing.assert_close(together, 2 * x + 7 + 5.0)  # 3 · 1 − 2 · (−1)
    assert joint.batches == [4]
    assert separate.batches == [2, 2]


def test_out_of_memory_runs_the_predictions_one_by_one() -> None:
    class Small(Recorder):
        def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
            if x.shape[0] > 2:
                self.batches.append(-1)
                raise torch.OutOfMemoryError
            return super().forward(x, t, condition)

    x, t = torch.randn(2, 4, 3, 2, 2), torch.tensor([7, 7])
    small = Small()
    guided = GuidedModel(small, TextGuidance(2.0), [condition(1.0), condition(-1.0)])
    for _ in range(2):
        torch.testing.assert_close(guided(x, t), 2 * x + 7 + 5.0)
    assert small.batches == [-1, 2, 2, 2, 2]
    with pytest.raises(torch.OutOfMemoryError):
        guided(torch.cat([x, x]), torch.cat([t, t]))


def test_extra_channels_belong_to_their_prediction() -> None:
    class Extra(Recorder):
        def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
            return x[:, :4] + x[:, 4:5]

    x, t = torch.randn(1, 4, 2, 2, 2), torch.tensor([0])
    extra = [torch.full((1, 1, 2, 2, 2), value) for value in (1.0, 2.0, 4.0)]
    conditions = [condition(0.0, batch=1)] * 3
    guided = GuidedModel(Extra(), TextImageGuidance(5.0, 3.0), conditions, extra)(x, t)
    torch.testing.assert_close(guided, x + 4.0 + 3.0 * (2.0 - 4.0) + 5.0 * (1.0 - 2.0))


def test_joining_pads_contexts_with_masked_zeros() -> None:
    joined = join_conditions([condition(1.0, tokens=4), condition(2.0, tokens=2)])
    assert joined.context.shape == (4, 4, 5)
    assert joined.mask.shape == (4, 4)
    assert not joined.mask[2:, 2:].any()
    assert (joined.context[2:, 2:] == 0).all()
    assert joined.shift.tolist() == [1.0, 1.0, 2.0, 2.0]
    assert joined.positions is None
    assert joined.image is False


def test_conditions_that_differ_in_kind_are_refused() -> None:
    still = Condition(torch.zeros(1, 1, 5), torch.ones(1, 1, dtype=torch.bool), torch.zeros(1), image=True)
    with pytest.raises(ValueError, match="image"):
        join_conditions([condition(1.0), still])
    with pytest.raises(ValueError, match="needs conditions for"):
        GuidedModel(Recorder(), TextGuidance(1.0), [still])
