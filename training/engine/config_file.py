"""The YAML file after `--config`, looked at before it is parsed: what is no settings file is said in one sentence."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import yaml

from fusionframes_core.files import home_path, stand_in_at


def check_config_files(arguments: Sequence[str]) -> None:
    """`check_config_file` for every file that the arguments name."""
    for argument, following in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        name, equals, value = argument.partition("=")
        path = home_path(value if equals else following)
        if name == "--config" and path.is_file():
            check_config_file(path)


def check_config_file(path: Path) -> None:
    """Raise ValueError for what a download left in the place of a YAML file, for one in another encoding than UTF-8,
    for one without settings, and for a key that comes twice."""
    what = stand_in_at(path, "settings")
    if what:
        raise ValueError(f"config must name a YAML file; {path} is {what}")
    try:
        text = path.read_text("utf-8")
        content = yaml.compose(text, yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise ValueError(f"config must name a YAML file in UTF-8; {path} is in another encoding") from error
    except yaml.YAMLError as error:
        mark, why = (getattr(error, name, None) for name in ("problem_mark", "problem"))
        where = f" (line {mark.line + 1})" if mark else ""
        raise ValueError(f"config must name a YAML file; {path} is none: {why or error}{where}") from error
    if not isinstance(content, yaml.MappingNode):
        held = "is empty" if content is None else "holds something else"
        raise ValueError(f"config must name a YAML file of settings, as `train:` and `model: tiny`; {path} {held}")
    key = _twice(content, set())
    if key is not None:
        line = key.start_mark.line + 1
        raise ValueError(f"config must name each setting once; {path}, line {line}, has {key.value} a second time")


def _twice(node: yaml.Node, seen: set[int]) -> yaml.ScalarNode | None:
    """The first key that a mapping has already; `seen` are the nodes that were looked at, which an alias repeats."""
    if id(node) in seen or isinstance(node, yaml.ScalarNode):
        return None
    seen.add(id(node))
    parts = node.value
    if isinstance(node, yaml.MappingNode):
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for index, key in enumerate(keys):
            if key.value in [other.value for other in keys[:index]]:
                return key
        parts = [value for _, value in node.value]
    return next((found for part in parts if (found := _twice(part, seen)) is not None), None)
