"""The browser tests use the host tests' server."""

from __future__ import annotations

from tests.host.conftest import server

__all__ = ["server"]
