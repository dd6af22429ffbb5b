"""A ComfyUI that has changed where we touch it: loaded by ComfyUI's own loader after the change."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.host, pytest.mark.slow]

LOAD = """
import asyncio, sys, tempfile
folder = sys.argv.pop(1)
inputs = tempfile.TemporaryDirectory()  # for the examples, which the pack puts there
sys.argv += ["--cpu", "--input-directory", inputs.name]
import comfy.options
comfy.options.enable_args_parsing()
import logging, torch, nodes, comfy.samplers, comfy.utils, comfy.text_encoders.t5
logging.basicConfig(level=logging.INFO, stream=sys.stdout, force=True)
CHANGE
loaded = asyncio.run(nodes.load_custom_node(folder))
print("loaded", loaded, "FusionFrames_Decode" in nodes.NODE_CLASS_MAPPINGS)
"""

CHANGES = {
    "del comfy.utils.common_upscale": "comfy.utils.common_upscale is not there",
    "del comfy.samplers.CFGGuider.set_cfg": "comfy.samplers.CFGGuider.set_cfg is not there",
    "del comfy.text_encoders.t5; sys.modules['comfy.text_encoders.t5'] = None": "comfy.text_encoders.t5.T5 is not",
    "comfy.utils.ProgressBar.update_absolute = lambda self, value: None": "update_absolute does not take total and",
}


def load(comfyui: Any, root: Path, change: str) -> str:
    """What ComfyUI says while it loads the pack after a change to itself."""
    command = [str(comfyui.python), "-c", LOAD.replace("CHANGE", change), str(root)]
    done = subprocess.run(command, cwd=comfyui.path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_this_comfyui_has_everything(comfyui: Any, root: Path) -> None:
    """Unchanged, the pack loads without a word."""
    said = load(comfyui, root, "pass")
    assert "loaded True True" in said
    assert "FusionFrames cannot" not in said


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_internal_is_one_sentence(comfyui: Any, root: Path, change: str) -> None:
    """One line names what is gone and the versions that fit; no traceback, and ComfyUI goes on without the pack."""
    said = load(comfyui, root, change)
    assert "loaded False False" in said
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if "FusionFrames cannot work with this ComfyUI" in line]
    assert CHANGES[change] in line
    assert "0.18.1, 0.27.0 and 0.33.0" in line
