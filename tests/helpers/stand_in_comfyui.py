"""A ComfyUI that has what the table of internals names and nothing else, so that `nodes` can be imported without one.

Functions do nothing and classes are empty: a test puts in what it needs. `comfy_api` is the one in tests/stubs.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
STUBS = ROOT / "tests" / "stubs"
PACK = "fusionframes_pack"  # as ComfyUI does, the pack's folder is imported as a package: nodes imports relatively
TABLE = ROOT / "nodes" / "host" / "comfy" / "internals.py"


def read_table() -> ModuleType:
    """nodes/host/comfy/internals.py, which needs no ComfyUI to be read."""
    spec = importlib.util.spec_from_file_location("internals", TABLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(touches: Iterable[Any]) -> dict[str, ModuleType]:
    """Modules by name with everything that the rows of the table name, and its parameters."""
    rows = {touch.path: touch for touch in touches if not touch.path.startswith("comfy_api.")}
    modules: dict[str, ModuleType] = {}
    for path in sorted(rows):  # a class before what is in it
        names = path.split(".")
        holder: Any = None
        for depth in range(1, len(names) + 1):
            holder = _within(holder, ".".join(names[:depth]), rows, modules)
    return modules


def _within(holder: Any, path: str, rows: dict[str, Any], modules: dict[str, ModuleType]) -> Any:
    """The thing at a dotted path inside its holder, made where it is not there yet."""
    name = path.split(".")[-1]
    if holder is not None and name in vars(holder):
        return vars(holder)[name]
    if path not in rows and name.islower():
        made: Any = modules.setdefault(path, ModuleType(path))
    elif any(row.startswith(f"{path}.") for row in rows) or (name[0].isupper() and "_" not in name):
        made = type(name, (), {})
    elif name.isupper():
        made = (path,)  # a constant: hashable, and can be gone through
    else:
        made = lambda *values, **named: None  # noqa: E731
    if path in rows and callable(made):
        made.__signature__ = inspect.Signature(
            [inspect.Parameter(given, inspect.Parameter.POSITIONAL_OR_KEYWORD) for given in rows[path].takes.split()]
        )
    if holder is not None:
        setattr(holder, name, made)
    return made


class Folders:
    """ComfyUI's folder_paths over one folder: models/<kind>/, input/ and output/."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.added: list[tuple[str, str]] = []

    def get_folder_paths(self, folder_name: str) -> list[str]:
        return [str(self.base / "models" / folder_name)]

    def get_filename_list(self, folder_name: str) -> list[str]:
        (folder,) = map(Path, self.get_folder_paths(folder_name))
        return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())

    def get_full_path(self, folder_name: str, filename: str) -> str | None:
        file = Path(self.get_folder_paths(folder_name)[0]) / filename
        return str(file) if file.is_file() else None

    def get_output_directory(self) -> str:
        return str(self.base / "output")

    def get_input_directory(self) -> str:
        return str(self.base / "input")

    def add_model_folder_path(self, folder_name: str, full_folder_path: str) -> None:
        self.added.append((folder_name, full_folder_path))

    def add_file(self, name: str, content: bytes = b"") -> Path:
        """Put a file somewhere below the base."""
        file = self.base / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file


@contextmanager
def imported_nodes() -> Iterator[ModuleType]:
    """The package `nodes`, imported into the stand-in; afterwards no module of either is left."""
    before = dict(sys.modules)
    pack = ModuleType(PACK)
    pack.__path__ = [str(ROOT)]
    sys.modules.update({**build(read_table().INTERNALS), PACK: pack})
    sys.path.insert(0, str(STUBS))
    try:
        yield importlib.import_module(f"{PACK}.nodes")
    finally:
        sys.path.remove(str(STUBS))
        foreign = ("comfy", "comfy_api", "comfy_execution", "folder_paths", PACK)
        for name in [name for name in sys.modules if name.split(".")[0] in foreign]:
            del sys.modules[name]
        sys.modules.update({name: module for name, module in before.items() if name.split(".")[0] in foreign})
