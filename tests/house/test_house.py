"""Laws of the house that no linter knows: dependencies agree, no machine's paths, no unsafe loading, short files."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LONG_FILE, TOO_LONG_FILE = 300, 400
# Written so that this line does not match itself.
MACHINE_PATH = re.compile(r"(?<![\w.~>$}])/(?:ro[o]t|hom[e]/\w+|Use[r]s/\w+|wor[k]|tm[p]|op[t])/\w|\b[A-Z]:\\\\?Users")
TEXT = {".py", ".md", ".toml", ".txt", ".json", ".yaml", ".yml", ".js", ".mjs", ".cfg", ".ini", ".sh", ""}
# Module → the package that brings it, where the names differ.
DISTRIBUTIONS = {"cv2": "opencv-python", "yaml": "pyyaml", "PIL": "pillow", "tokenizers": "transformers"}
COMES_WITH_COMFYUI = {"pillow", "pyyaml", "aiohttp"}
OPTIONAL = {"triton"}  # comes with torch's builds for GPUs; without it torch's own operations do the work
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}


def tracked_files() -> list[Path]:
    answer = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        pytest.skip("not a git checkout: which files belong to the pack is unknown")
    return [ROOT / name for name in answer.stdout.split("\0") if name and (ROOT / name).is_file()]


def sources() -> list[Path]:
    return [path for path in tracked_files() if path.suffix == ".py"]


def requirements(file: str) -> dict[str, str]:
    """Requirement lines of a file: name → the whole line."""
    lines = (line.split("#")[0].strip() for line in (ROOT / file).read_text("utf-8").splitlines())
    return {re.split(r"[<>=!~ \[;]", line)[0].lower().replace("_", "-"): line for line in lines if line}


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def declared(*extras: str) -> list[str]:
    """Requirements of pyproject.toml: the pack's own, or those of the extras that are named."""
    project = pyproject()["project"]
    if not extras:
        return project["dependencies"]
    return [line for extra in extras for line in project["optional-dependencies"][extra]]


def everything_declared() -> list[str]:
    """Names of all requirements, without the markers that say on which systems they are asked for."""
    lines = declared() + declared(*pyproject()["project"]["optional-dependencies"])
    return [line.split(";")[0].strip() for line in lines]


def test_requirements_txt_repeats_pyproject() -> None:
    assert list(requirements("requirements.txt").values()) == declared()


def test_the_hosts_torch_is_never_pinned() -> None:
    for line in declared() + declared("training", "bitsandbytes"):
        assert not re.search(r"[<>=!~@]", line), f"{line}: the host decides which version it has"


def test_constraints_hold_an_exact_version_of_everything_we_ask_for() -> None:
    pinned = requirements("constraints.txt")
    for name in everything_declared():
        line = pinned.get(name, "missing")  # pip writes PyYAML as its authors do
        assert re.fullmatch(rf"{name}==[\w.]+", line, re.IGNORECASE), f"{name} in constraints.txt"


def test_every_import_is_declared() -> None:
    """Core and nodes live on what `pip install` brings (and what ComfyUI has); the other rooms on the extras too."""
    core = set(map(str.lower, declared())) | OPTIONAL
    extras = set(map(str.lower, declared("training", "test")))
    problems = []
    for path in sources():
        room = path.relative_to(ROOT).parts[0]
        known = core | (COMES_WITH_COMFYUI if room == "nodes" else set() if room == "fusionframes_core" else extras)
        found = third_party(ast.parse(path.read_text("utf-8")))
        # A script finds what lies beside it.
        names = {name: DISTRIBUTIONS.get(name, name) for name in found if not path.with_name(f"{name}.py").is_file()}
        problems += [f"{path.relative_to(ROOT)}: {name}" for name, package in names.items() if package not in known]
    assert not problems, "\n".join(problems)


def test_every_dependency_is_imported_or_says_why() -> None:
    """What no file imports has its reason beside it in pyproject.toml: `"name", # reason`."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    imported = {DISTRIBUTIONS.get(name, name) for path in sources() for name in named_modules(path)}
    explained = set(re.findall(r'^ *"([\w-]+)", +# \S', text, re.MULTILINE))
    unused = {name for name in everything_declared() if name.replace("-", "_") not in imported and name not in imported}
    assert unused - explained == set()


def named_modules(path: Path) -> set[str]:
    """Third-party modules that a file imports, by a statement or by `importlib.import_module("name")`."""
    tree = ast.parse(path.read_text("utf-8"))
    calls = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module")
    )
    by_name = {call.args[0].value for call in calls if call.args and isinstance(call.args[0], ast.Constant)}
    return third_party(tree) | {str(name).split(".")[0] for name in by_name}


def third_party(tree: ast.AST) -> set[str]:
    """Top-level modules that a file imports from neither the standard library nor this pack nor ComfyUI."""
    ours = {path.name for path in ROOT.iterdir() if path.is_dir()}
    comfyui = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "nodes", "server", "execution"}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found - ours - comfyui - set(sys.stdlib_module_names)


def test_no_file_names_a_machine() -> None:
    problems = []
    for path in tracked_files():
        if path.suffix not in TEXT:
            continue
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
            if MACHINE_PATH.search(line):
                problems.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("text", ["see /ro" + "ot/models/x", "'/hom" + "e/anna/out.mp4'", "=/tm" + "p/x"])
def test_a_machine_path_is_noticed(text: str) -> None:
    assert MACHINE_PATH.search(text)


def unsafe_uses(tree: ast.AST) -> list[tuple[int, str]]:
    """Lines that run or unpickle what a file or a user says."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found += [(node.lineno, f"imports {name}") for name in names if name.split(".")[0] in UNSAFE_MODULES]
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if name in UNSAFE_CALLS or name == "os.system":
                found.append((node.lineno, f"calls {name}"))
            if name == "torch.load" and keywords.get("weights_only") != "True":
                found.append((node.lineno, "torch.load without weights_only=True"))
            if keywords.get("allow_pickle") == "True" or keywords.get("shell") == "True":
                found.append((node.lineno, f"{name} with allow_pickle or shell"))
    return found


def test_nothing_runs_or_unpickles_what_a_file_says() -> None:
    problems = [
        f"{path.relative_to(ROOT)}:{line}: {what}"
        for path in sources()
        for line, what in unsafe_uses(ast.parse(path.read_text("utf-8")))
    ]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "eval(text)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "numpy.load(path, allow_pickle=True)",
        "subprocess.run(command, shell=True)",
    ],
)
def test_an_unsafe_use_is_noticed(source: str) -> None:
    assert unsafe_uses(ast.parse(source))


def test_a_safe_use_is_let_through() -> None:
    assert unsafe_uses(ast.parse("model.eval()\ntorch.load(path, weights_only=True)\nre.compile('a')")) == []


def test_links_between_our_pages_lead_somewhere() -> None:
    problems = []
    for page in (path for path in tracked_files() if path.suffix == ".md"):
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                problems.append(f"{page.relative_to(ROOT)}: {target}")
    assert not problems, "\n".join(problems)


def test_files_stay_short() -> None:
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines()) for path in sources()}
    long = [f"{name} has {lines} lines" for name, lines in lengths.items() if LONG_FILE < lines <= TOO_LONG_FILE]
    if long:
        warnings.warn(f"is there a room missing? {', '.join(long)}", stacklevel=1)
    too_long = {name: lines for name, lines in lengths.items() if lines > TOO_LONG_FILE}
    assert not too_long, f"over {TOO_LONG_FILE} lines: {too_long}"
