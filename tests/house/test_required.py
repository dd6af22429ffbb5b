"""FUSIONFRAMES_REQUIRE turns the skips of a machine that should have a ComfyUI into failures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.required import VARIABLE, required_kinds, unavailable

ROOT = Path(__file__).resolve().parents[2]


def test_a_skip_stays_a_skip_where_nothing_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(pytest.skip.Exception, match="no ComfyUI here"):
        unavailable("host", "no ComfyUI here")


@pytest.mark.parametrize(("named", "kind"), [("host", "host"), ("browser", "browser"), ("browser", "host")])
def test_what_is_required_fails_with_the_same_reason(monkeypatch: pytest.MonkeyPatch, named: str, kind: str) -> None:
    monkeypatch.setenv(VARIABLE, named)
    with pytest.raises(pytest.fail.Exception, match="no ComfyUI here"):
        unavailable(kind, "no ComfyUI here")


def test_a_kind_that_is_not_named_is_still_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "host")
    with pytest.raises(pytest.skip.Exception, match="no Chromium"):
        unavailable("browser", "no Chromium")


def test_a_misspelt_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "host, browsers")
    with pytest.raises(ValueError, match="got 'browsers'"):
        required_kinds()


@pytest.mark.parametrize(("required", "status", "said"), [("", 0, "1 skipped"), ("host", 1, "no interpreter for")])
def test_a_run_without_a_comfyui(tmp_path: Path, required: str, status: int, said: str) -> None:
    """The whole way: a work tree without an interpreter, and one host test that needs both."""
    (tmp_path / "main.py").touch()
    missing = {"COMFYUI_PATH": str(tmp_path), "COMFYUI_PYTHON": str(tmp_path / "python"), VARIABLE: required}
    test = "tests/host/test_import.py::test_server_loads_the_pack"
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", test],
        cwd=ROOT,
        env={**os.environ, **missing},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == status, answer.stdout + answer.stderr
    assert said in answer.stdout
