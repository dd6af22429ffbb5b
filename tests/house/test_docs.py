"""What the pages say is there: commands, options, files, names, versions; and README stays one page."""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import io
import json
import re
import runpy
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_WORDS = 900
SUBJECTS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")), *SUBJECTS]
PAGES.append(ROOT / "fusionframes_core" / "tiny" / "README.md")
FOLDERS = "fusionframes_core|nodes|training|tests|workflows|inputs|web|locales|loras|benchmarks|docs|results"
# A path from the pack's folder, as far as it has no <placeholders> or {alternatives}.
OUR_PATH = re.compile(rf"(?<![\w./~>-])((?:{FOLDERS}|\.ci|\.github)/[\w./*-]*)(?![\w<{{])")
MODULE = re.compile(r"-m ((?:fusionframes_core|training|benchmarks)(?:\.\w+)*)")
WITH_SUBCOMMANDS = {"fusionframes_core", "training.evaluate", "training.prepare", "training.human_study"}
OLDER = re.compile(r"Python (3\.\d+)(?:\+| or newer)")


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


def pyproject() -> dict[str, Any]:
    return tomllib.loads(text_of(ROOT / "pyproject.toml"))


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def test_readme_is_one_page() -> None:
    words = len(text_of(ROOT / "README.md").split())
    assert words <= MOST_WORDS, f"{words} words: the rest belongs into docs/"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_module_that_a_page_runs_is_there(page: Path) -> None:
    named = set(MODULE.findall(re.sub(r"\s+", " ", text_of(page))))
    assert {module for module in named if importlib.util.find_spec(module) is None} == set()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_path_that_a_page_names_is_there(page: Path) -> None:
    named = {path.rstrip("./") for path in OUR_PATH.findall(text_of(page))}
    assert {path for path in named if not any(ROOT.glob(path))} == set()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("`docs/gone.md`", ["docs/gone.md"]),
        ("custom_nodes/x", []),
        ("web/docs/<id>.md", ["web/docs"]),
        ("(nodes/*.py)", ["nodes/*.py"]),
    ],
)
def test_a_path_is_told_from_other_words(text: str, found: list[str]) -> None:
    assert OUR_PATH.findall(text) == found


def commands(page: Path) -> Iterator[list[str]]:
    """Words of every command of ours in a page's blocks and inline code, with continued lines joined."""
    text = text_of(page).replace("\\\n", " ")
    blocks = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    for line in [line for block in blocks for line in block.splitlines()] + inline:
        words = line.split()
        if words[:2] == ["python", "-m"] and MODULE.fullmatch(" ".join(words[1:3])):
            yield words[2:]


@cache
def help_of(module: str, *subcommand: str) -> str:
    """What `python -m module subcommand --help` prints, run in this process, which has torch already."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", [module, *subcommand, "--help"])
        patch.setattr(signal, "signal", lambda *_: None)  # commands take SIGTERM and Ctrl-C for themselves
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert ended.value.code == 0, f"{module} {' '.join(subcommand)}: {printed.getvalue()}"
    return printed.getvalue()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_option_that_a_page_names_is_offered(page: Path) -> None:
    problems = []
    for module, *words in commands(page):
        subcommand = [
            word for word in words[:1] if module in WITH_SUBCOMMANDS and re.fullmatch(r"[a-z][a-z0-9-]*", word)
        ]
        offered = set(re.findall(r"--[\w.-]+", help_of(module, *subcommand)))
        options = {word.split("[")[0] for word in words if re.match(r"--[a-z]", word)}
        problems += [f"{module} {' '.join(subcommand)} has no {option}" for option in options - offered]
    assert problems == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_name_that_a_page_imports_is_there(page: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_every_page_is_reached_from_readme() -> None:
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        seen.add(page)
        targets = ((page.parent / target).resolve() for target in re.findall(r"\]\(([^)#\s]+\.md)", text_of(page)))
        waiting += [target for target in targets if target not in seen and target.is_file()]
    assert set(PAGES) - seen == set()


def test_comfyui_page_names_every_node_and_every_workflow() -> None:
    page = text_of(ROOT / "docs" / "comfyui.md")
    nodes = json.loads(text_of(ROOT / "locales" / "en" / "nodeDefs.json")).values()
    titles = {node["display_name"].removeprefix("FusionFrames ") for node in nodes}
    workflows = {path.stem for path in (ROOT / "workflows").glob("*.json")}
    assert {name for name in titles | workflows if name not in page} == set()


def test_the_oldest_python_is_the_same_everywhere() -> None:
    project = pyproject()
    floor = project["project"]["requires-python"].removeprefix(">=")
    said = {found for page in (*PAGES, ROOT / "Makefile") for found in OLDER.findall(text_of(page))}
    versions = [line.rpartition(" ")[2] for line in project["project"]["classifiers"] if "Python :: 3." in line]
    matrix = re.findall(r'python: "(3\.\d+)"', text_of(ROOT / ".github" / "workflows" / "ci.yml"))
    assert said == {floor}
    assert project["tool"]["ruff"]["target-version"] == "py" + floor.replace(".", "")
    assert project["tool"]["mypy"]["python_version"] == floor
    assert f"sys.version_info < ({floor.replace('.', ', ')})" in text_of(ROOT / "Makefile")
    assert versions[0] == floor
    assert set(matrix) == set(versions)


def test_the_version_is_the_same_everywhere() -> None:
    headings = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", text_of(ROOT / "CHANGELOG.md"), re.MULTILINE)
    version = pyproject()["project"]["version"]
    assert headings[0] == ("Unreleased", "")
    assert headings[1][0] == version
    assert headings[1][1], "a release has a date"
    citation = text_of(ROOT / "CITATION.cff")
    assert f"\nversion: {version}\ndate-released: {headings[1][1]}\n" in citation


def test_an_artists_download_has_what_it_needs_and_no_more() -> None:
    """`.comfyignore` is read as .gitignore is: ask git which of our files it leaves out."""
    asked = ["git", "ls-files", "-c", "-i", "--exclude-from=.comfyignore"]
    answer = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        pytest.skip("not a git checkout: which files belong to the pack is unknown")
    left_out = {name.split("/")[0] for name in answer.stdout.splitlines()}
    assert left_out == {"tests", "results", "benchmarks", ".github", ".ci", ".gitignore"}


def test_commands_are_found_on_the_pages() -> None:
    """Or the test of their options could not fail."""
    found = {words[0] for page in PAGES for words in commands(page)}
    assert {"fusionframes_core", "training.train_keyframes", "training.evaluate", "benchmarks"} <= found
