"""Who may import whom (CONTRIBUTING, "Rooms"): read from the syntax trees, so that no file has to run."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMFYUI = frozenset(
    {"comfy", "comfy_execution", "comfy_extras", "comfy_config", "folder_paths", "nodes", "server", "execution"}
    | {"latent_preview", "node_helpers", "app", "api_server"}
)
HEAVY = ("transformers", "tokenizers", "cv2", "av", "accelerate", "tensorboard", "training")


@dataclass(frozen=True)
class Import:
    """One imported name: `from ..a import b` in nodes/x.py is the absolute name `a.b` with level 2."""

    file: str
    line: int
    name: str
    level: int
    lazy: bool  # inside a function, or under `if TYPE_CHECKING:`

    def within(self, *packages: str) -> bool:
        return any(self.name == package or self.name.startswith(package + ".") for package in packages)

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.name}"


def read_imports(text: str, file: str) -> list[Import]:
    """Every import in a source file whose path relative to the pack is `file`."""
    return list(_walk(ast.parse(text, filename=file), Path(file), lazy=False))


def _walk(node: ast.AST, file: Path, lazy: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(file.as_posix(), node.lineno, alias.name, 0, lazy)
    elif isinstance(node, ast.ImportFrom):
        parents = file.parent.parts[: len(file.parent.parts) - (node.level - 1)] if node.level else ()
        if node.level - 1 > len(file.parent.parts):
            parents = ("<outside the pack>",)
        for alias in node.names:
            parts = (*parents, *(node.module or "").split("."), alias.name)
            yield Import(file.as_posix(), node.lineno, ".".join(filter(None, parts)), node.level, lazy)
    function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    type_checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, file, lazy or function or type_checking)


def imports_of(path: str) -> list[Import]:
    """Imports of one file, or of every file of a room."""
    files = [ROOT / path] if path.endswith(".py") else sorted((ROOT / path).rglob("*.py"))
    assert files, f"no Python file in {path}"
    return [
        found for file in files for found in read_imports(file.read_text("utf-8"), file.relative_to(ROOT).as_posix())
    ]


def is_host(file: str) -> bool:
    return file == "nodes/host.py" or file.startswith("nodes/host/")


def broken_rules(found: Import) -> list[str]:
    """Every rule of the house that one import breaks."""
    room = found.file.split("/")[0]
    absolute = found.level == 0
    in_models = found.file.startswith("fusionframes_core/models/")
    above_models = [
        f"fusionframes_core.{name}" for name in ("sampling", "checkpoints", "pipeline", "video", "__main__")
    ]
    rules = {
        "only nodes/host touches ComfyUI": absolute
        and found.within(*COMFYUI)
        and not is_host(found.file)
        and room != "tests",
        "only nodes and tests see comfy_api": found.within("comfy_api") and room not in ("nodes", "tests"),
        "core knows no training and no nodes": room == "fusionframes_core" and found.within("training", "nodes"),
        "nodes know no training": room == "nodes" and found.within("training"),
        "training knows no nodes": room == "training" and found.within("nodes"),
        "core and nodes import the pack relatively": absolute
        and room in ("fusionframes_core", "nodes")
        and found.within("fusionframes_core"),
        "other rooms import core absolutely": not absolute
        and room in ("training", "tests", "benchmarks")
        and found.within("fusionframes_core", "<outside the pack>"),
        "no import leaves the pack": found.within("<outside the pack>"),
        "models know no sampling, checkpoints or pipeline": in_models and found.within(*above_models),
    }
    return [rule for rule, broken in rules.items() if broken]


FLOORS = (
    ("errors", "value_checks", "config", "files"),
    ("kernels", "presets"),
    ("models",),
    ("sampling", "media", "checkpoints"),
    ("settings",),
    ("image_to_video", "given_keyframes", "prompt_contexts"),
    ("pipeline",),
    ("cli",),
    ("__init__", "__main__"),
)
"""The rooms of fusionframes_core from the ground up; a room may import from its own floor's modules and from below."""


def test_core_imports_one_way() -> None:
    """No room of the core imports from its own floor or above, and every room has a floor."""
    floors = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    problems = []
    for found in (found for found in imports_of("fusionframes_core") if found.within("fusionframes_core")):
        own, target = _room(found.file), _module_of(found.name).split(".")
        other = target[1] if len(target) > 1 else None
        assert own in floors, f"{own} has no floor"
        if other and other != own and floors[other] >= floors[own]:
            problems.append(str(found))
    assert not problems, "\n".join(problems)


def _room(file: str) -> str:
    parts = Path(file).parts
    return parts[1].removesuffix(".py")


@pytest.mark.parametrize("room", ["fusionframes_core", "nodes", "training"])
def test_no_two_modules_import_each_other(room: str) -> None:
    """Circles of any length; what is imported inside a function, or for types alone, does not count."""
    graph: dict[str, set[str]] = {}
    for found in imports_of(room):
        if not found.lazy and found.name.startswith(room):
            graph.setdefault(_module_name(found.file), set()).add(_module_of(found.name))
    for module in graph:
        reached, coming = set(), list(graph[module] - {module})
        while coming:
            following = coming.pop()
            if following not in reached:
                reached.add(following)
                coming += graph.get(following, ())
        assert module not in reached, f"{module} imports itself by way of others"


def _module_name(file: str) -> str:
    return ".".join(Path(file).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("room", ["fusionframes_core", "nodes", "training", "tests", "benchmarks"])
def test_every_room_keeps_the_import_rules(room: str) -> None:
    problems = [f"{found}: {rule}" for found in imports_of(room) for rule in broken_rules(found)]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("nodes/load.py", "import comfy.utils"),
        ("nodes/load.py", "def f():\n    from nodes import LoraLoader"),
        ("nodes/load.py", "from fusionframes_core import pipeline"),
        ("nodes/load.py", "from ..training import engine"),
        ("nodes/load.py", "from ...other_pack import thing"),
        ("fusionframes_core/pipeline.py", "import folder_paths"),
        ("fusionframes_core/pipeline.py", "from comfy_api.latest import io"),
        ("fusionframes_core/pipeline.py", "from ..training import engine"),
        ("fusionframes_core/models/unet.py", "from ..sampling.schedule import NoiseSchedule"),
        ("fusionframes_core/models/unet.py", "from .. import checkpoints"),
        ("fusionframes_core/models/unet.py", "from fusionframes_core.models import blocks"),
        ("training/engine.py", "from ..fusionframes_core.models import unet"),
        ("training/engine.py", "from nodes import load"),
    ],
)
def test_the_rules_notice_a_breach(file: str, source: str) -> None:
    assert any(broken_rules(found) for found in read_imports(source, file))


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("nodes/load.py", "from ..fusionframes_core.pipeline import FusionFramesPipeline"),
        ("nodes/load.py", "from comfy_api.latest import io"),
        ("nodes/load.py", "from . import host"),
        ("nodes/host/load.py", "import comfy.utils, folder_paths"),
        ("fusionframes_core/pipeline.py", "from .models.unet import UNet"),
        ("fusionframes_core/models/unet.py", "from ..config import UNetConfig"),
        ("training/engine.py", "from fusionframes_core.models import unet\nfrom .objectives import NoiseLevels"),
    ],
)
def test_the_rules_allow_what_they_should(file: str, source: str) -> None:
    assert [rule for found in read_imports(source, file) for rule in broken_rules(found)] == []


def test_the_pack_imports_nothing_when_comfyui_reads_it() -> None:
    """`__init__.py` does its imports in `comfy_entrypoint`, so that a broken host cannot break the import."""
    eager = [found for found in imports_of("__init__.py") if not found.lazy]
    eager = [found for found in eager if found.level or not found.within(*sys.stdlib_module_names)]
    assert not eager, "\n".join(map(str, eager))


def _heavy_modules_after(statement: str) -> list[str]:
    code = f"import sys\n{statement}\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.split()


def test_importing_core_is_light() -> None:
    assert _heavy_modules_after("import fusionframes_core") == []


def test_what_the_nodes_import_at_load_time_is_light() -> None:
    """ComfyUI imports every pack at start: transformers, OpenCV and PyAV wait until a node runs."""
    eager = {found.name for found in imports_of("nodes") if not found.lazy and found.within("fusionframes_core")}
    modules = sorted({"fusionframes_core", *map(_module_of, eager)})
    assert _heavy_modules_after("\n".join(f"import {module}" for module in modules)) == []


def _module_of(name: str) -> str:
    """The longest prefix of a dotted name that is a module of the pack."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:length])
        if path.with_suffix(".py").is_file() or (path / "__init__.py").is_file():
            return ".".join(parts[:length])
    raise AssertionError(f"{name} is no module of the pack")
