"""Prompts: what their words ask for, the held-out ones, and files of them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from training.engine.command_line import BadInput
from training.moving_shapes.prompts_file import (
    Prompt,
    held_out_prompts,
    make_prompts,
    parse_prompt,
    read_prompts,
    write_prompts,
)
from training.moving_shapes.scenes import COLOURS, MOTIONS, SHAPES, caption, is_held_out, sample_scene

HELD_OUT = Path(__file__).parents[3] / "training" / "prompts" / "held_out_200.jsonl"
MOTIONLESS = HELD_OUT.with_name("motionless_32.txt")


def test_the_words_of_a_caption_are_found_again() -> None:
    rng = np.random.default_rng(0)
    for _ in range(400):
        scene = sample_scene(rng, None)
        found = parse_prompt(caption(scene, rng))
        assert (found.shape, found.colour, found.motion) == (scene.shape, scene.colour, scene.motion)
        assert found.speed in (None, scene.speed)
        assert found.size in (None, scene.size)


@pytest.mark.parametrize(
    ("text", "shape", "colour", "motion"),
    [
        ("A large RED circle, moving slowly to the left!", "circle", "red", "moving left"),
        ("blue star moves in a circle on a white background", "star", "blue", "circling"),
        ("an orange square", "square", "orange", None),
        ("something that rotates", None, None, "spinning"),
        ("a green circle circles on a grey background", "circle", "green", "circling"),
    ],
)
def test_free_wordings_are_understood(text: str, shape: str, colour: str, motion: str) -> None:
    found = parse_prompt(text)
    assert (found.shape, found.colour, found.motion) == (shape, colour, motion)


def test_held_out_prompts_are_held_out_different_and_cover_everything() -> None:
    prompts = make_prompts(200, seed=0)
    assert len({prompt.prompt for prompt in prompts}) == 200
    assert all(is_held_out(p.colour, p.shape, p.motion) for p in prompts if p.colour and p.shape and p.motion)
    combinations = {(p.colour, p.shape, p.motion) for p in prompts}
    assert len(combinations) == 43
    assert {p.motion for p in prompts} == set(MOTIONS)
    assert make_prompts(200, seed=0) == prompts != make_prompts(200, seed=1)


def test_more_prompts_than_there_are_wordings_are_refused() -> None:
    with pytest.raises(BadInput, match="--count must be at most 1, after which no wording is new; got 3"):
        held_out_prompts(lambda scene, rng: Prompt("a red circle"), 3, seed=0)


def test_the_shipped_prompts_are_what_the_command_makes() -> None:
    assert HELD_OUT.read_text("utf-8") == write_prompts(make_prompts())
    assert read_prompts(HELD_OUT) == make_prompts()


def test_the_motionless_prompts_name_every_shape_in_every_colour_and_nothing_else() -> None:
    prompts = read_prompts(MOTIONLESS)
    assert {(p.colour, p.shape) for p in prompts} == set(itertools.product(COLOURS, SHAPES))
    assert len(prompts) == len(COLOURS) * len(SHAPES)
    assert all(p.motion is p.speed is p.size is None for p in prompts)


def test_prompts_are_read_from_text_and_from_json(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text('# comment\n\na red star that spins\n{"prompt": "surprise me", "colour": "blue"}\n')
    expected = [Prompt("a red star that spins", "star", "red", "spinning"), Prompt("surprise me", colour="blue")]
    assert read_prompts(file) == expected
    assert read_prompts(file, limit=1) == expected[:1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("hello there", "line 1: a prompt must name a shape, a colour or a motion; got 'hello there'"),
        ('{"prompt": "x", "colour": "pink"}', "line 1: colour must be one of red, .* got 'pink'"),
        ('{"prompt": "x", "color": "red"}', "line 1: keys must be among prompt, .* got color"),
        ('{"colour": "red"}', "line 1: prompt must be a string"),
        ('{"prompt": ', "line 1: not JSON"),
        ("", "must hold at least one prompt"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text(line)
    with pytest.raises(BadInput, match=message):
        read_prompts(file)
