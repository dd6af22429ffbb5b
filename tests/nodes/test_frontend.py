"""The sentence about a frontend that is too old for help pages."""

from __future__ import annotations

import importlib.metadata
import logging
from types import ModuleType

import pytest

from tests.helpers.stand_in_comfyui import PACK


def said(nodes: ModuleType, version: str | None, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture) -> str:
    """What goes to the log when this version of the frontend is installed."""

    def installed(package: str) -> str:
        assert package == "comfyui-frontend-package"
        if version is None:
            raise importlib.metadata.PackageNotFoundError(package)
        return version

    monkeypatch.setattr(f"{PACK}.nodes.host.comfy.frontend.version", installed)
    with log.at_level(logging.WARNING):
        nodes.host.warn_of_old_frontend()
    return log.text


@pytest.mark.parametrize("version", ["1.12.8", "1.21.0", "0.9", "1.21.9rc2"])
def test_an_old_frontend_is_named_once(
    nodes: ModuleType, version: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    text = said(nodes, version, monkeypatch, caplog)
    assert f"FusionFrames: comfyui-frontend-package {version} is too old" in text
    assert "need 1.22: run `pip install -r requirements.txt`" in text
    assert len(caplog.records) == 1


@pytest.mark.parametrize("version", ["1.22.0", "1.41.21", "1.45.20", "2.0", "1.22.0+local", None])
def test_others_are_not_mentioned(
    nodes: ModuleType, version: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Newer ones, the first with help pages, and a frontend that pip knows nothing of."""
    assert said(nodes, version, monkeypatch, caplog) == ""
