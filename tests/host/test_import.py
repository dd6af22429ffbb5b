"""The pack inside ComfyUI: what its import costs and what it tells the user about itself."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.host_server import PACK_NAME, Server

pytestmark = [pytest.mark.host, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]

NODES = [
    *("LoadUNet", "LoadTextEncoder", "LoadMoVQ", "DrawFirstFrame", "ImageToVideo", "PrepareFirstFrame"),
    *("LoadModel", "EncodeText", "SchedulePrompts", "SaveConditioning", "LoadConditioning"),
    *("EmptyVideoLatent", "SampleKeyframes", "ExtendVideo", "CloseLoop", "PlanSampling"),
    *("Interpolate", "PrepareInterpolation", "Decode", "EncodeVideo"),
]
WORKFLOWS = [file.stem for file in sorted(ROOT.joinpath("workflows").glob("*.json"))]
HEAVY = {"transformers", "cv2", "diffusers", "accelerate", "scipy", "sklearn", "pandas", "matplotlib", "tensorboard"}
# The pack under a path-like module name, as ComfyUI loads it, after everything that ComfyUI itself has loaded by then.
IMPORT = """
import asyncio, importlib.util, json, sys, tempfile, time
folder = sys.argv.pop(1)
inputs = tempfile.TemporaryDirectory()  # for the examples, which the pack puts there
sys.argv += ["--cpu", "--input-directory", inputs.name]
import comfy.options
comfy.options.enable_args_parsing()
import torch, nodes, comfy_api.latest
before, start = set(sys.modules), time.process_time()
name = folder.replace(".", "_x_")
spec = importlib.util.spec_from_file_location(name, folder + "/__init__.py")
sys.modules[name] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
asyncio.run(asyncio.run(module.comfy_entrypoint()).get_node_list())
seconds = time.process_time() - start
print("\\n" + json.dumps([seconds, sorted({m.partition(".")[0] for m in set(sys.modules) - before if m[0] != "/"})]))
"""


def test_import_is_quick_and_light(comfyui: Any, root: Path) -> None:
    """Under 0.3 s of work beyond what ComfyUI has loaded (the better of two); no heavy package comes with it."""
    command = [str(comfyui.python), "-c", IMPORT, str(root)]
    answers = []
    for _ in range(2):
        done = subprocess.run(command, cwd=comfyui.path, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        answers.append(json.loads(done.stdout.splitlines()[-1]))
    seconds, packages = min(answers)
    print(f"import: {seconds:.3f} s; new packages: {packages}")
    assert not HEAVY & set(packages)
    assert seconds < 0.3


def test_server_loads_the_pack(server: Server) -> None:
    """ComfyUI's own table of import times has the pack, without IMPORT FAILED (its work is measured above)."""
    print(f"import in the server: {server.import_seconds():.1f} s of wall-clock time")


def inputs_of(info: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Options of every input that a person sees, by name."""
    groups = [info["input"].get(kind, {}) for kind in ("required", "optional")]
    return {key: value[1] for group in groups for key, value in group.items()}


@pytest.mark.parametrize("name", NODES)
def test_node_explains_itself(server: Server, name: str) -> None:
    """A description, search aliases, a tooltip on every input and output, and a help page."""
    info = server.get(f"/object_info/FusionFrames_{name}")[f"FusionFrames_{name}"]
    assert info["category"] == "FusionFrames"
    assert info["description"]
    assert info["search_aliases"]
    assert all(info["output_tooltips"])
    inputs = inputs_of(info)
    assert [key for key, options in inputs.items() if not options.get("tooltip")] == []
    page = server.text(f"/extensions/{PACK_NAME}/docs/FusionFrames_{name}.md")
    assert page.startswith(f"# {info['display_name']}\n")
    shown = [options.get("display_name") or key for key, options in inputs.items()]
    assert [name for name in shown if f"**{name}**" not in page] == []


@pytest.mark.parametrize("language", ["en", "zh", "ru"])
def test_locale_names_everything(server: Server, language: str) -> None:
    """The translations name exactly the nodes, inputs and outputs that there are; English repeats the schema."""
    translated = server.get("/i18n")[language]["nodeDefs"]
    for name in NODES:
        node = f"FusionFrames_{name}"
        info, words = server.get(f"/object_info/{node}")[node], translated[node]
        options = inputs_of(info)
        assert set(words["inputs"]) == set(options)
        assert set(words["outputs"]) == {str(index) for index in range(len(info["output"]))}
        if language == "en":
            assert (words["display_name"], words["description"]) == (info["display_name"], info["description"])
            assert words["inputs"] == {
                key: {"name": value.get("display_name") or key, "tooltip": value["tooltip"]}
                for key, value in options.items()
            }
            assert [words["outputs"][str(index)]["name"] for index in range(len(info["output"]))] == info["output_name"]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_template_browser_offers_the_workflow(server: Server, name: str) -> None:
    """Each workflow and its thumbnail are where the frontend's template browser looks."""
    assert name in server.get("/api/workflow_templates")[PACK_NAME]
    assert server.get(f"/api/workflow_templates/{PACK_NAME}/{name}.json")["nodes"]
    thumbnail = server.base / "custom_nodes" / PACK_NAME / "workflows" / f"{name}.jpg"
    assert thumbnail.read_bytes()[:2] == b"\xff\xd8"
