"""Encoded prompts as files: what is written comes back, and other files are refused in a sentence."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.helpers.stand_in_comfyui import PACK


@pytest.fixture
def files(nodes: ModuleType) -> Any:
    """nodes/host/sampling/conditioning_files.py."""
    return sys.modules[f"{PACK}.nodes.host.sampling.conditioning_files"]


def test_what_is_saved_comes_back(files: Any, tmp_path: Path) -> None:
    masks = {"attention_mask": torch.ones(1, 3, dtype=torch.bool), "mask": torch.rand(1, 4, 1, 1)}
    given = [[torch.rand(1, 3, 8), {"pooled_output": None}], [torch.rand(1, 2, 8), {"pooled_output": None, **masks}]]
    files.save_conditioning(given, tmp_path / "a.safetensors")
    read = files.load_conditioning(tmp_path / "a.safetensors")
    assert [context.equal(wanted) for (context, _), (wanted, _) in zip(read, given, strict=True)] == [True, True]
    assert all(read[1][1][name].equal(mask) for name, mask in masks.items())


@pytest.mark.parametrize("changed", [{"mask_strength": 0.5}, {"set_area_to_bounds": True}])
def test_what_the_file_does_not_hold_is_refused(files: Any, tmp_path: Path, changed: dict[str, Any]) -> None:
    """A stock mask may act by a part, or in its bounds; a schedule's does neither."""
    plain = {"pooled_output": None, "mask": torch.ones(1, 4, 1, 1), "mask_strength": 1.0, "set_area_to_bounds": False}
    files.save_conditioning([[torch.zeros(1, 3, 8), plain]], tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=f"encoded or scheduled; this one has {next(iter(changed))}"):
        files.save_conditioning([[torch.zeros(1, 3, 8), plain | changed]], tmp_path / "b.safetensors")
    assert not (tmp_path / "b.safetensors").exists()


@pytest.mark.parametrize(
    "names", [["1.context"], ["x.context"], ["0.context", "2.context"], ["0.context", ".context"], ["0"]]
)
def test_other_files_are_refused_in_a_sentence(files: Any, tmp_path: Path, names: list[str]) -> None:
    save_file({name: torch.zeros(1, 3, 8) for name in names}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"a\.safetensors is no conditioning: FusionFrames Save Conditioning writes"):
        files.load_conditioning(tmp_path / "a.safetensors")
