"""The motion gap, of an oracle that reads motion words and of one that does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fusionframes_core.models.text_encoder import TextContext
from fusionframes_core.presets import TINY
from fusionframes_core.sampling.schedule import NoiseSchedule
from training.evaluation.motion_gap import OPPOSITE, motion_gap, plain_caption
from training.moving_shapes.prompts_file import parse_prompt
from training.moving_shapes.scenes import sample_scene


class LeftOrRight:
    """A text encoder that reads nothing but the direction, into the context's first number."""

    def encode(self, prompts: list[str]) -> TextContext:
        signs = [1.0 if "left" in prompt else -1.0 if "right" in prompt else 0.0 for prompt in prompts]
        return TextContext(torch.tensor(signs).view(-1, 1, 1), torch.ones(len(prompts), 1, dtype=torch.bool))


def reads(share: float, schedule: NoiseSchedule):
    """An oracle of v for clips of constant ±1 that trusts the text's direction by `share`."""

    def predict(x: Tensor, t: Tensor, text: TextContext) -> Tensor:
        alpha, sigma = (value.view(-1, 1, 1, 1, 1) for value in schedule.alpha_sigma(t))
        return (alpha * x - share * text.context.view(-1, 1, 1, 1, 1)) / sigma

    return predict


def test_the_gap_shows_whether_motion_words_are_read() -> None:
    schedule = NoiseSchedule.from_config(TINY.keyframe_schedule)
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng, None, motion=f"moving {way}") for way in ("left", "right") * 4]
    scenes.append(sample_scene(rng, None, motion="circling"))
    latents = torch.ones(9, 4, 2, 8, 8)
    latents[1:8:2] *= -1

    def gap(share: float) -> dict[str, float]:
        generator = torch.Generator().manual_seed(0)
        return motion_gap(reads(share, schedule), latents, scenes, LeftOrRight(), schedule, generator)  # type: ignore[arg-type]

    reader, blind = gap(1.0), gap(0.0)
    assert reader["gap_right"] < 1e-6 < 1 < reader["gap"] == pytest.approx(reader["gap_wrong"])
    assert reader["gap_wins"] == 1.0
    assert set(reader) >= {"gap/moving left", "gap/moving right"}
    assert "gap/circling" not in reader
    assert blind["gap"] == 0.0 == blind["gap_wins"]


def test_opposites_are_mutual_and_differ_in_the_motion_words_alone() -> None:
    rng = np.random.default_rng(1)
    for motion, opposite in OPPOSITE.items():
        assert OPPOSITE[opposite] == motion
        scene = sample_scene(rng, None, motion=motion)
        right, wrong = parse_prompt(plain_caption(scene)), parse_prompt(plain_caption(scene, opposite))
        assert (right.motion, wrong.motion) == (motion, opposite)
        assert (right.shape, right.colour, right.size, right.speed) == (
            wrong.shape,
            wrong.colour,
            wrong.size,
            wrong.speed,
        )


def test_the_gap_needs_a_motion_with_an_opposite() -> None:
    scene = sample_scene(np.random.default_rng(0), None, motion="circling")
    schedule = NoiseSchedule.from_config(TINY.keyframe_schedule)
    with pytest.raises(ValueError, match="scenes must hold at least one whose motion has an opposite"):
        motion_gap(reads(1.0, schedule), torch.ones(1, 4, 2, 8, 8), [scene], LeftOrRight(), schedule, torch.Generator())  # type: ignore[arg-type]
