"""A sentence in the log when the installed frontend is too old to show what the pack brings for it."""

from __future__ import annotations

import logging
import re
from importlib.metadata import PackageNotFoundError, version

PACKAGE = "comfyui-frontend-package"
# The first frontend with a help panel, which reads web/docs. Packs' templates have been shown for longer: 1.12, the
# oldest on PyPI.
HELP_PAGES = (1, 22)


def warn_of_old_frontend() -> None:
    """Say so when nodes have no help pages here. A frontend that pip did not install is not judged."""
    try:
        installed = version(PACKAGE)
    except PackageNotFoundError:
        return
    if _release(installed) < HELP_PAGES:
        needed = ".".join(map(str, HELP_PAGES))
        logging.warning(
            "FusionFrames: %s %s is too old to show the nodes' help pages, which need %s: run "
            "`pip install -r requirements.txt` in ComfyUI's folder",
            PACKAGE,
            installed,
            needed,
        )


def _release(text: str) -> tuple[int, ...]:
    """The first numbers of a version: (1, 22, 0) of "1.22.0rc1"."""
    return tuple(map(int, re.findall(r"\d+", text)[:3]))
