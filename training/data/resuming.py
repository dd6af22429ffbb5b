"""Folders that a stopped command goes on with: what decides their content is written down first and stays so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..engine.durable_files import write_json
from .items import DataError

SETTINGS = "settings.json"


def keep_settings(
    folder: Path, settings: Mapping[str, Any], made: str, unsaid: Mapping[str, str], grows: str = ""
) -> None:
    """Write `settings` into a new `folder`; in one that has some, raise DataError for the first that differs.

    `made` is what was done, `prepared`; `unsaid` what to say of a setting whose value would say nothing (`videos` →
    `another list of videos`). The list named by `grows` may have become longer at its end. Of a setting that is a
    mapping, only what `settings` names counts: older versions wrote more.
    """
    wanted = json.loads(json.dumps(settings, default=str))
    path = folder / SETTINGS
    old = read_settings(folder) if path.exists() else wanted
    for name, value in wanted.items():
        before = old.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            before = {key: before[key] for key in value if key in before}
        compared = value[: len(before)] if name == grows and isinstance(before, list) else value
        if before != compared:
            what = unsaid.get(name, f"{name} {before!r}, not {value!r}")
            raise DataError(f"{folder} was {made} with {what}: choose another folder")
    if not path.exists() or old != wanted:
        write_json(path, wanted)


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings of a folder. Raises DataError unless they are a JSON object."""
    return read_object(folder / SETTINGS, " with the settings of its folder: choose another folder")


def read_object(path: Path, rest: str) -> dict[str, Any]:
    """A JSON object that preparing wrote. Raises DataError, whose sentence ends with `rest`, unless it is one."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise DataError(f"{path} must be a JSON object{rest}")
    return content
