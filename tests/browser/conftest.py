"""The browser tests use the host tests' server, and a Chromium."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.helpers.host_official import FOLDERS, install
from tests.helpers.host_server import Server
from tests.helpers.required import unavailable
from tests.host.conftest import server

__all__ = ["server"]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def chromium() -> str:
    """A Chromium, given Node.js and playwright-core to drive it with."""
    found = os.environ.get("CHROMIUM_PATH") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        unavailable("browser", "no Chromium: install one or set CHROMIUM_PATH")
    if shutil.which("node") is None:
        unavailable("browser", "no Node.js on PATH")
    asked = subprocess.run(["node", "-e", "require('playwright-core')"], capture_output=True, check=False)
    if asked.returncode:
        unavailable(
            "browser",
            "no playwright-core: `npm install playwright-core` somewhere and set NODE_PATH to its node_modules",
        )
    return found


@pytest.fixture(scope="session")
def official_server(server: Server) -> Server:
    """The same with small models of random weights in the places of the official ones, so that their workflows run."""
    for version in FOLDERS:
        install(version, server.base / "models")
    return server
