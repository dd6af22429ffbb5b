"""Inputs that come from another node: ComfyUI checks a prompt before it runs, and gives None for them."""

from __future__ import annotations

from inspect import signature
from itertools import chain, combinations
from types import ModuleType
from typing import Any

import pytest

from tests.helpers.stand_in_comfyui import Folders


def node_classes(nodes: ModuleType) -> list[Any]:
    """Every node that checks inputs of its own."""
    modules = [value for value in vars(nodes).values() if isinstance(value, ModuleType)]
    found = {value for module in modules for value in vars(module).values() if hasattr(value, "validate_inputs")}
    return [node for node in found if "define_schema" in vars(node)]


def test_a_linked_input_is_left_for_when_the_node_runs(nodes: ModuleType, folders: Folders) -> None:
    """Whichever of the inputs that a check looks at are linked, it says nothing of them."""
    folders.add_file("output/conditioning/prompt.safetensors")
    checked = [node for node in node_classes(nodes) if signature(node.validate_inputs).parameters]
    assert len(checked) > 8
    for node in checked:
        names = list(signature(node.validate_inputs).parameters)
        assert node.validate_inputs(**dict.fromkeys(names)) is True, node
        for linked in chain.from_iterable(combinations(names, count) for count in range(1, len(names))):
            said = node.validate_inputs(**dict.fromkeys(linked))
            assert said is True or "None" not in said, (node, linked)


@pytest.mark.parametrize("linked", ["width", "height"])
def test_the_other_side_is_still_checked(nodes: ModuleType, linked: str) -> None:
    sizes: dict[str, Any] = {"width": 50, "height": 50, linked: None}
    said = nodes.keyframes.EmptyVideoLatent.validate_inputs(**sizes)
    assert said.startswith("width and height must be 0 or multiples of 16")


def test_a_linked_size_that_no_model_makes_is_refused_when_the_node_runs(nodes: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"width and height must be 0 or multiples of 16 .* got 50×64"):
        nodes.keyframes.EmptyVideoLatent.execute(50, 64, 16, 2.0, 1)
