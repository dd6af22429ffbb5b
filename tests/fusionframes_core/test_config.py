"""Configs survive JSON, and the presets agree with themselves (test_unet_parity and test_movq_parity: with the official
checkpoints)."""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from typing import Any

import pytest

from fusionframes_core.config import ModelConfig, from_dict, to_dict
from fusionframes_core.presets import PRESETS
from fusionframes_core.settings import size_multiple


@pytest.mark.parametrize("name", PRESETS)
def test_configs_survive_json(name: str) -> None:
    config = PRESETS[name]
    assert from_dict(ModelConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_unknown_and_missing_keys_are_named() -> None:
    data = to_dict(PRESETS["tiny"])
    data["movq"]["colour"] = data["movq"].pop("channels")
    with pytest.raises(ValueError, match=r"MoVQConfig: unknown keys \['colour'\], missing keys \['channels'\]"):
        from_dict(ModelConfig, data)


def fields_of(data: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The place of every value and of every object in a configuration."""
    inside = [
        place for key, value in data.items() if isinstance(value, dict) for place in fields_of(value, (*path, key))
    ]
    return [*((*path, key) for key in data), *inside]


FIELDS = fields_of(to_dict(PRESETS["kandinsky-video-1.1"]))


def with_value(place: tuple[str, ...], value: Any) -> tuple[dict[str, Any], Any]:
    """A configuration that has another value at a place, and what was there."""
    data = to_dict(PRESETS["kandinsky-video-1.1"])
    inner = data
    for key in place[:-1]:
        inner = inner[key]
    old, inner[place[-1]] = inner[place[-1]], value
    return data, old


@pytest.mark.parametrize("place", FIELDS, ids=".".join)
def test_a_value_of_another_type_is_named_with_what_is_allowed(place: tuple[str, ...]) -> None:
    wrong: list[Any] = [{"a": 1}, [], [None], "x", 7, 0.5, float("nan"), 10**400, -1, True, None]
    for value in wrong:
        data, old = with_value(place, value)
        optional = place[-1] in ("threshold_quantile", "fixed_perturbation", "image_movq")
        fits = isinstance(value, type(old)) and not (isinstance(value, int | float) and not 0 <= value <= 2**20)
        number = isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool) and 0 < value < 99
        if fits or number or (optional and (value is None or value in (0.5, 7))) or value == []:
            continue
        with pytest.raises(ValueError, match=rf"^{'.'.join(place)}(\[0\])? must be ") as caught:
            from_dict(ModelConfig, data)
        assert "; got " in str(caught.value)
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("fps", "two", "fps must be a finite number above 0; got 'two'"),
        ("guidance", None, "guidance must be a finite number of at least 0; got None"),
        ("text.max_tokens", 0, "text.max_tokens must be a whole number of at least 1 and at most 1048576; got 0"),
        ("text.max_tokens", True, "and at most 1048576; got True"),
        ("size", [64], "size must be a list of 2; got [64]"),
        ("movq", 5, "movq must be an object with keys; got 5"),
        ("keyframe.num_blocks", [3, "x"], "keyframe.num_blocks[1] must be a whole number of at least 1"),
        ("keyframe.image_input", 1, "keyframe.image_input must be true or false; got 1"),
        ("interpolation_schedule.threshold_quantile", 1.5, "must be a finite number above 0 and at most 1; got 1.5"),
    ],
)
def test_what_is_allowed_is_said(place: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        from_dict(ModelConfig, with_value(tuple(place.split(".")), value)[0])


def test_a_whole_number_will_do_for_a_rate() -> None:
    assert from_dict(ModelConfig, with_value(("fps",), 3)[0]).fps == 3


def test_every_number_of_a_config_has_limits() -> None:
    """So that a new field cannot come without them."""
    for kind in {ModelConfig, *(type(getattr(PRESETS["tiny"], f.name)) for f in dataclasses.fields(ModelConfig))}:
        if dataclasses.is_dataclass(kind):
            hints = typing.get_type_hints(kind, include_extras=True)
            assert not {name for name, hint in hints.items() if hint in (int, float)}, kind


@pytest.mark.parametrize("name", PRESETS)
def test_presets_agree_with_themselves(name: str) -> None:
    """Text, keyframe and interpolation share the context; latents, sizes and channels fit together."""
    config = PRESETS[name]
    trunk = config.interpolation.trunk
    assert config.text.context_dim == config.keyframe.context_dim == trunk.context_dim
    assert config.movq.latent_channels == config.keyframe.out_channels == 4
    assert (trunk.in_channels, trunk.out_channels, trunk.temporal) == (20, 12, "none")
    assert config.keyframe.in_channels == (9 if config.keyframe.image_input else 4)
    assert all(side % size_multiple(config) == 0 for side in config.size)
    assert {field.name for field in dataclasses.fields(config)} == set(to_dict(config))
