"""The house is small enough to learn: few modules at each front door, one name each, tests where the code is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.house.test_imports import imports_of

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("fusionframes_core", "nodes", "training")
MOST_MODULES = 12
# Modules that no test imports by name → the tests that go through them.
TESTED_THROUGH = {
    "fusionframes_core.cli.input_clip": "tests/fusionframes_core/cli/test_interpolate_videos.py",
    "fusionframes_core.media.frame_colour": "tests/fusionframes_core/media/test_kinds.py",
    "fusionframes_core.media.gif_writer": "tests/fusionframes_core/media/test_video.py",
    "fusionframes_core.media.png_writer": "tests/fusionframes_core/media/test_video.py",
    "fusionframes_core.media.video_file": "tests/fusionframes_core/media/test_kinds.py",
    "fusionframes_core.models.prompt_words": "tests/fusionframes_core/models/test_unknown_words.py",
    "training.data.data_report": "tests/training/data/test_preparing.py",
    "training.data.fingerprints": "tests/training/data/test_additions.py",
    "training.data.planning": "tests/training/data/test_preparing.py",
    "training.data.resuming": "tests/training/data/test_preparing.py",
    "training.data.stored_texts": "tests/training/data/test_prepared_texts.py",
    "training.engine.averaging": "tests/training/engine/test_trainer.py",
    "training.engine.checkpoint_writer": "tests/training/engine/test_checkpoint_parts.py",
    "training.engine.model_config": "tests/training/test_stages.py",
    "training.engine.run_state": "tests/training/engine/test_trainer.py",
    "training.evaluation.video_commands": "tests/training/evaluation/test_video_commands.py",
    "training.objectives.autoencoder_objective": "tests/training/test_stages.py",
    "training.objectives.image_objective": "tests/training/test_stages.py",
    "training.objectives.interpolation_architectures": "tests/training/test_stages.py",
    "training.objectives.sample_videos": "tests/training/test_stages.py",
    "training.tables.table_models": "tests/training/tables/test_tables.py",
}


def modules(package: str) -> dict[str, Path]:
    """Dotted name → file of every module of a package, but for `__init__` and `__main__`."""
    files = (path for path in sorted((ROOT / package).rglob("*.py")) if not path.stem.startswith("__"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files}


def test_no_two_modules_have_the_same_name() -> None:
    names = Counter(path.name for package in PACKAGES for path in modules(package).values())
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_few_modules_at_the_top(package: str) -> None:
    top = [path.name for path in modules(package).values() if path.parent == ROOT / package]
    assert len(top) <= MOST_MODULES, f"{package}/ has {len(top)} modules: {', '.join(top)}"


def untested() -> set[str]:
    """Modules of the library and of training that no test imports."""
    imported = {found.name for found in imports_of("tests")}
    every = {**modules("fusionframes_core"), **modules("training")}
    return {name for name in every if not any(f"{seen}.".startswith(f"{name}.") for seen in imported)}


def test_every_module_is_imported_by_a_test_or_names_the_test_that_goes_through_it() -> None:
    assert untested() - set(TESTED_THROUGH) == set(), "give the module a test, or say above which one goes through it"


def test_no_exception_outlives_its_reason() -> None:
    assert set(TESTED_THROUGH) - untested() == set(), "gone, or imported by a test by now"
    assert {test for test in TESTED_THROUGH.values() if not (ROOT / test).is_file()} == set()
