"""What every test room shares: seeds, the golden parity cases, and the ComfyUI that host tests run in."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from tests.helpers.required import required_kinds, unavailable

ROOT = Path(__file__).resolve().parents[1]


class ComfyUI(NamedTuple):
    """A ComfyUI work tree and the interpreter that has its requirements."""

    path: Path
    python: Path


def pytest_configure() -> None:
    """Refuse a misspelt FUSIONFRAMES_REQUIRE before the first test."""
    try:
        required_kinds()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error


@pytest.fixture(autouse=True)
def _seed() -> None:
    """A test that draws without a generator draws the same numbers every time."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def root() -> Path:
    """The pack's folder."""
    return ROOT


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Folder of parity cases: FUSIONFRAMES_GOLDEN, or the copy under tests/."""
    folder = Path(os.environ.get("FUSIONFRAMES_GOLDEN") or ROOT / "tests" / "parity" / "golden")
    if not any(folder.glob("*.safetensors")):
        pytest.skip(f"no parity cases: FUSIONFRAMES_GOLDEN={folder} holds no .safetensors")
    return folder


@pytest.fixture(scope="session")
def comfyui() -> ComfyUI:
    """The ComfyUI to test in, from the environment, comfy-cli's workspace, or the one around this pack."""
    path = _comfyui_path()
    if path is None:
        unavailable("host", "no ComfyUI: set COMFYUI_PATH and COMFYUI_PYTHON to a work tree and its interpreter")
    python = os.environ.get("COMFYUI_PYTHON") or _virtualenv_python(path)
    if not python or not Path(python).exists():
        unavailable("host", f"no interpreter for the ComfyUI in {path}: set COMFYUI_PYTHON")
    return ComfyUI(path, Path(python))


def _comfyui_path() -> Path | None:
    named = os.environ.get("COMFYUI_PATH")
    if named:
        if not (Path(named) / "main.py").is_file():
            pytest.fail(f"COMFYUI_PATH={named} is no ComfyUI work tree: it has no main.py")
        return Path(named)
    around = ROOT.parents[1] if ROOT.parent.name == "custom_nodes" else None
    if around is not None and (around / "comfy").is_dir():
        return around
    return _comfy_cli_workspace()


def _comfy_cli_workspace() -> Path | None:
    command = shutil.which("comfy")
    if command is None:
        return None
    answer = subprocess.run(
        [command, "--skip-prompt", "which"], capture_output=True, text=True, timeout=60, check=False
    )
    for word in answer.stdout.split():
        if (Path(word) / "main.py").is_file():
            return Path(word)
    return None


def _virtualenv_python(path: Path) -> str | None:
    for name in (".venv", "venv"):
        for relative in ("bin/python", "Scripts/python.exe"):
            if (path / name / relative).exists():
                return str(path / name / relative)
    return None
