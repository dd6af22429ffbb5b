"""The nodes in a stand-in for ComfyUI."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers.stand_in_comfyui import Folders, imported_nodes


@pytest.fixture(scope="session")
def package() -> Iterator[ModuleType]:
    """The package `nodes`, imported once."""
    with imported_nodes() as imported:
        yield imported


@pytest.fixture
def folders(package: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    """ComfyUI's folders, empty."""
    empty = Folders(tmp_path)
    names = ("get_folder_paths", "get_filename_list", "get_full_path", "get_input_directory", "get_output_directory")
    for name in names:
        monkeypatch.setattr(f"folder_paths.{name}", getattr(empty, name))
    monkeypatch.setattr("folder_paths.add_model_folder_path", empty.add_model_folder_path)
    return empty


@pytest.fixture
def nodes(package: ModuleType, folders: Folders) -> ModuleType:
    """The package `nodes`, with empty folders."""
    return package
