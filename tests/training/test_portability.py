"""`training` runs on Windows and macOS: nothing that Unix alone has is imported at the top of a module."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import pytest
import torch

import training
from tests.helpers.toy_trainer import settings, toy_trainer
from tests.helpers.training_runs import entries
from training.engine import reporting

FOLDER = Path(training.__file__).parent
UNIX_ONLY = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}


def top_level_imports(tree: ast.Module) -> set[str]:
    """Packages that a module needs to be imported itself."""
    imported = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.split(".")[0] for name in imported}


def test_no_module_needs_what_only_unix_has() -> None:
    found = {
        str(path.relative_to(FOLDER)): names
        for path in FOLDER.rglob("*.py")
        if (names := top_level_imports(ast.parse(path.read_text("utf-8"))) & UNIX_ONLY)
    }
    assert not found
    assert top_level_imports(ast.parse("import resource\nfrom os import path")) == {"resource", "os"}


def test_a_run_without_the_resource_module_reports_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has none: the module is imported all the same, and a run trains, with a tracker too."""
    monkeypatch.setitem(sys.modules, "resource", None)
    importlib.reload(reporting)
    assert reporting.memory_mb(torch.device("cpu")) is None
    toy_trainer(settings(tmp_path, trackers=["tensorboard"])).run()
    assert [entry["step"] for entry in entries(tmp_path)] == [2, 4, 6, 8, 10]


def test_memory_of_this_process_is_known_on_unix() -> None:
    pytest.importorskip("resource", reason="this system has no resource module")
    memory = reporting.memory_mb(torch.device("cpu"))
    assert memory is not None
    assert 50 < memory < 1e6
