"""The checks of inputs that ComfyUI itself does not make."""

from __future__ import annotations

import math
from types import ModuleType

import pytest


@pytest.mark.parametrize(("width", "height"), [(16, 16), (64, 48), (2048, 2048), (0, 64), (0, 0)])
def test_sizes_in_steps_are_accepted(nodes: ModuleType, width: int, height: int) -> None:
    assert nodes.keyframes.EmptyVideoLatent.validate_inputs(width, height) is True


@pytest.mark.parametrize(("width", "height"), [(8, 64), (64, 50), (2064, 64), (-16, 16)])
def test_other_sizes_are_named(nodes: ModuleType, width: int, height: int) -> None:
    sentence = nodes.keyframes.EmptyVideoLatent.validate_inputs(width, height)
    assert sentence == f"width and height must be 0 or multiples of 16 from 16 to 2048 pixels; got {width}×{height}"


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 0.5])
def test_cfg_must_be_a_number(nodes: ModuleType, value: float) -> None:
    with pytest.raises(ValueError, match="cfg must be 0 \\(the model's own\\) or a finite number of at least 1; got"):
        nodes.input_checks.check_cfg(value)
    nodes.input_checks.check_cfg(5.0)
    nodes.input_checks.check_cfg(0.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.5])
def test_a_weight_must_be_a_number(nodes: ModuleType, value: float) -> None:
    with pytest.raises(ValueError, match="cfg_image must be -1 \\(the model's own\\) or a finite number of at least 0"):
        nodes.input_checks.check_weight("cfg_image", value)
    nodes.input_checks.check_weight("cfg_image", 0.0)
    nodes.input_checks.check_weight("cfg_image", -1.0)
