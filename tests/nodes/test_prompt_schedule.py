"""Reading a schedule of prompts."""

from __future__ import annotations

from types import ModuleType

import pytest


def test_lines_are_read_in_the_order_of_keyframes(nodes: ModuleType) -> None:
    read = nodes.text.read_schedule("7: a star, blue: and small\n\n  0 :a circle  \n12:", 16)
    assert read == [(0, "a circle"), (7, "a star, blue: and small"), (12, "")]
    assert nodes.text.read_schedule("\ufeff0: a circle\r\n3: a star", 16) == [(0, "a circle"), (3, "a star")]


@pytest.mark.parametrize(
    ("prompts", "sentence"),
    [
        ("0: a circle\n16: a star", "prompts names keyframe 16, but there are 16: 0 to 15"),
        ("a circle", "prompts must be lines like '0: a red circle'; got 'a circle'"),
        ("-1: a circle", "got '-1: a circle'"),
        ("3: a circle\n3: a star", "prompts names keyframe 3 twice"),
        (" \n", "prompts must have at least one line"),
    ],
)
def test_a_line_that_is_wrong_is_named(nodes: ModuleType, prompts: str, sentence: str) -> None:
    with pytest.raises(ValueError, match="prompts") as refusal:
        nodes.text.read_schedule(prompts, 16)
    assert sentence in str(refusal.value)
    assert nodes.text.SchedulePrompts.validate_inputs(prompts, 16) == str(refusal.value)


def test_a_good_schedule_is_accepted(nodes: ModuleType) -> None:
    assert nodes.text.SchedulePrompts.validate_inputs("0: a circle\n15: a star", 16) is True


def test_the_models_own_number_may_take_any_keyframe_until_it_is_known(nodes: ModuleType) -> None:
    assert nodes.text.SchedulePrompts.validate_inputs("0: a circle\n99: a star", 0) is True
    assert nodes.text.read_schedule("0: a circle\n99: a star", 0) == [(0, "a circle"), (99, "a star")]
