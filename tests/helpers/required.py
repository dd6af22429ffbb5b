"""FUSIONFRAMES_REQUIRE: what a machine promises to have, so that no test of it is skipped unseen.

A comma list of `host` (a ComfyUI and its interpreter) and `browser` (a ComfyUI, Node.js, playwright-core and a
Chromium). A test that lacks what is named there fails, with the reason that would have skipped it.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

VARIABLE = "FUSIONFRAMES_REQUIRE"
# What is named → what has to be there: a browser test opens the ComfyUI of the host tests.
KINDS = {"host": frozenset({"host"}), "browser": frozenset({"host", "browser"})}


def required_kinds() -> frozenset[str]:
    """The kinds of tests that may not be skipped. Raises ValueError for a name that is none."""
    named = [name for name in map(str.strip, os.environ.get(VARIABLE, "").split(",")) if name]
    unknown = [name for name in named if name not in KINDS]
    if unknown:
        raise ValueError(f"{VARIABLE} must be a comma list of {', '.join(KINDS)}; got {unknown[0]!r}")
    return frozenset().union(*(KINDS[name] for name in named))


def unavailable(kind: str, reason: str) -> NoReturn:
    """Skip the test for `reason`; fail it where the environment requires tests of this kind."""
    if kind in required_kinds():
        pytest.fail(f"{VARIABLE} asks for {kind} tests: {reason}", pytrace=False)
    pytest.skip(reason)
