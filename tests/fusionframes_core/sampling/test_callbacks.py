"""Callbacks end the work by raising; what else they answer does not matter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fusionframes_core.sampling.callbacks import Stopped, run_callback, shown_as

LATENTS = torch.ones(1, 4, 2, 3, 3)


@pytest.mark.parametrize("answer", [None, True, "stop", Stopped])
def test_other_answers_are_ignored(answer: object) -> None:
    run_callback(lambda step, total, latents: answer, 1, 2, LATENTS)
    run_callback(None, 1, 2, LATENTS)


def test_what_is_raised_reaches_the_caller_and_a_returned_stopped_is_raised() -> None:
    def broken(step: int, total: int, latents: Tensor) -> None:
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        run_callback(broken, 1, 2, LATENTS)
    stopped = Stopped("enough")
    with pytest.raises(Stopped) as raised:
        run_callback(shown_as(lambda step, total, latents: stopped, lambda latents: 2 * latents), 1, 2, LATENTS)
    assert raised.value is stopped


def test_a_callback_can_be_shown_something_else() -> None:
    seen: list[tuple[int, int, float]] = []
    show = shown_as(lambda step, total, latents: seen.append((step, total, float(latents.mean()))), lambda x: 3 * x)
    run_callback(show, 1, 2, LATENTS)
    assert seen == [(1, 2, 3.0)]
    assert shown_as(None, lambda x: x) is None
