"""The table of ComfyUI's internals is what nodes/host touches: nothing outside it, nothing in it that is gone."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.helpers.stand_in_comfyui import read_table

ROOT = Path(__file__).resolve().parents[2]
HOST = ROOT / "nodes" / "host"
COMFYUI = ("comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "latent_preview", "node_helpers")


def names_of(tree: ast.AST) -> dict[str, str]:
    """What the imports from ComfyUI are called in a file, and what they are."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return {name: path for name, path in names.items() if path.split(".")[0] in COMFYUI}


def touched(tree: ast.AST, names: dict[str, str]) -> Iterator[str]:
    """Dotted paths, as far as the source spells them out."""
    chain, node = [], tree
    while isinstance(node, ast.Attribute):
        chain.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name) and node.id in names:
        yield ".".join([names[node.id], *reversed(chain)])
        return
    for child in ast.iter_child_nodes(tree):
        yield from touched(child, names)


def test_everything_touched_is_in_the_read_table() -> None:
    rows = {row.path for row in read_table().INTERNALS}
    outside = set()
    for file in HOST.rglob("*.py"):
        tree = ast.parse(file.read_text())
        for path in touched(tree, names_of(tree)):
            if not any(path == row or path.startswith(f"{row}.__") for row in rows):
                outside.add(f"{file.name}: {path}")
    assert outside == set()


def test_everything_in_the_table_is_touched() -> None:
    sources = "\n".join(file.read_text() for file in HOST.rglob("*.py") if file.name != "internals.py")
    words = set(ast_words(ast.parse(sources)))
    assert [row.path for row in read_table().INTERNALS if row.path.split(".")[-1] not in words] == []


def ast_words(tree: ast.AST) -> Iterator[str]:
    """Every name of a source: variables, attributes, imports and functions."""
    for node in ast.walk(tree):
        for field in ("id", "attr", "name"):
            if isinstance(found := getattr(node, field, None), str):
                yield found


def test_rows_are_unique_and_say_where_they_were_checked() -> None:
    rows = read_table().INTERNALS
    assert len({row.path for row in rows}) == len(rows)
    assert all(row.checked for row in rows)


class Found:
    """Stands for a class of ComfyUI in another version."""

    def __init__(self, size: int) -> None:
        self.kept = size

    def method(self, first: int, **options: Any) -> None: ...


@pytest.mark.parametrize(
    ("path", "takes", "lack"),
    [
        ("Found", "size", ""),
        ("Found.kept", "", ""),
        ("Found.method", "first options", ""),
        ("Found.lost", "", "{}.Found.lost is not there"),
        ("Lost", "", "{}.Lost is not there"),
        ("Found.method", "first second third", "{}.Found.method does not take second and third"),
    ],
)
def test_what_is_lacking_is_named(monkeypatch: pytest.MonkeyPatch, path: str, takes: str, lack: str) -> None:
    module = ModuleType("stand_in")
    module.Found = Found  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stand_in", module)
    internals = read_table()
    touch = internals.Touch(f"stand_in.{path}", "0.0.1", takes)
    assert internals.find_lack(touch) == lack.format("stand_in")
    if not lack:
        internals.check([touch])
        return
    with pytest.raises(ImportError, match=r"It was checked on 0\.0\.1") as refusal:
        internals.check([touch])
    assert lack.format("stand_in") in str(refusal.value)
    assert "\n" not in str(refusal.value)
