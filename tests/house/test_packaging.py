"""`pip install .` brings every package and every file that the installed code reads."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = ("fusionframes_core", "training")


def modules() -> set[str]:
    return {str(path.relative_to(ROOT)) for room in INSTALLED for path in (ROOT / room).rglob("*.py")}


def test_every_folder_of_modules_is_a_package() -> None:
    """Packages are discovered by their `__init__.py`."""
    folders = {Path(name).parent for name in modules()}
    assert {folder for folder in folders if not (ROOT / folder / "__init__.py").is_file()} == set()


@pytest.mark.slow
def test_a_wheel_holds_every_module(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", reason="setuptools, which builds the wheel, is not installed here")
    source = tmp_path / "source"
    answer = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        pytest.skip("not a git checkout: which files belong to the pack is unknown")
    for name in filter(None, answer.stdout.split("\0")):
        if name.startswith((*INSTALLED, "pyproject.toml", "README.md", "LICENSE")) and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).symlink_to(ROOT / name)
    tracked = {str(path.relative_to(source)) for path in source.rglob("*.py")}
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q"]
    built = subprocess.run([*command, "-w", str(tmp_path), str(source)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        held = set(wheel.namelist())
    assert tracked - held == set()
    assert {"fusionframes_core/tiny/config.json", "fusionframes_core/py.typed"} <= held
