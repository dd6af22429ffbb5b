"""The command line's options: what their help says of defaults."""

from __future__ import annotations

import argparse
import re
from dataclasses import fields

import pytest

from fusionframes_core.cli.arguments import INTERPOLATION_SETTINGS, make_parser
from fusionframes_core.cli.commands import _skip_frames
from fusionframes_core.settings import MAX_PASSES, GenerationSettings

REQUIRED = {"generate": ["--prompt", "", "--out", "x.mp4"], "interpolate": ["in.mp4", "--out", "x.mp4"]}


def options(command: str) -> dict[str, argparse.Action]:
    """A command's options by the setting that they set."""
    commands = next(action for action in make_parser()._actions if isinstance(action.choices, dict))
    assert isinstance(commands.choices, dict)
    return {action.dest: action for action in commands.choices[command]._actions}


def default_shown(action: argparse.Action) -> str:
    """What stands last in brackets."""
    found = re.search(r"\(default: (.*)\)$", str(action.help))
    assert found, action.help
    return found[1].strip("'")


@pytest.mark.parametrize("field", fields(GenerationSettings), ids=lambda field: field.name)
def test_a_default_that_generate_shows_is_what_it_does_and_can_be_typed(field) -> None:
    action = options("generate")[field.name]
    shown = default_shown(action)
    if field.default is None:
        assert shown in ("of the model", "as passes says")
        return
    parsed = make_parser().parse_args(["generate", *REQUIRED["generate"], f"{action.option_strings[-1]}={shown}"])
    assert getattr(parsed, field.name) == field.default


def test_interpolate_says_what_is_true_of_it() -> None:
    """Its passes begin at 1, and its size and the time between frames are the input's."""
    shown = options("interpolate")
    assert INTERPOLATION_SETTINGS.keys() <= shown.keys()
    assert f"1 or {MAX_PASSES}" in str(shown["passes"].help)
    assert default_shown(shown["size"]).startswith("the input's")
    assert default_shown(shown["skip_frames"]).startswith("3 for a video of at most 4 frames per second")
    assert (_skip_frames(4), _skip_frames(4.01)) == (3, 1)
    assert "interpolation" in str(shown["lora"].help)
