"""A rehearsal inside ComfyUI: the shipped workflows of a version, with the files where users put them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.rehearsal_runs import Run, Short, peak_memory
from tests.helpers.host_server import Server, api_prompt, error_of

PACK = Path(__file__).resolve().parents[1]
WORKFLOWS = {"1.0": ("text_to_video_1_0",), "1.1": ("text_to_video_1_1", "image_to_video_1_1")}
KEYFRAME_NODES = ("FusionFrames_SampleKeyframes", "FusionFrames_ImageToVideo")
SIZED_NODES = (*KEYFRAME_NODES, "FusionFrames_DrawFirstFrame")


class ComfyUI(NamedTuple):
    """A work tree and the interpreter that has its requirements."""

    path: Path
    python: Path


def comfyui_at() -> ComfyUI | None:
    """The ComfyUI that COMFYUI_PATH and COMFYUI_PYTHON name."""
    path, python = (os.environ.get(name) for name in ("COMFYUI_PATH", "COMFYUI_PYTHON"))
    return ComfyUI(Path(path), Path(python)) if path and python else None


def run_workflows(comfyui: ComfyUI, models: Path, version: str, short: Short) -> Iterator[tuple[str, Run]]:
    """Each workflow in a server of its own, so that its memory is its own."""
    for name in WORKFLOWS[version]:
        device = () if torch.cuda.is_available() else ("--cpu",)
        paths = models / "extra_model_paths.yaml"
        folders = {place: place for place in ("diffusion_models", "text_encoders", "vae")}
        paths.write_text(json.dumps({"rehearsal": {"base_path": str(models), **folders}}))  # JSON is YAML
        options = (*device, "--extra-model-paths-config", str(paths))
        with Server(comfyui.path, comfyui.python, PACK, options) as server:
            yield name, run_prompt(server, shortened(server, name, short))


def shortened(server: Server, name: str, short: Short) -> dict[str, Any]:
    """The workflow as the canvas queues it, with the size, steps and number of keyframes of the rehearsal."""
    workflow = json.loads((PACK / "workflows" / f"{name}.json").read_text("utf-8"))
    prompt = api_prompt(workflow, server.get("/object_info"))
    for node in prompt.values():
        changes: dict[str, Any] = {}
        if node["class_type"] in SIZED_NODES:
            changes |= {"height": short.size[0], "width": short.size[1]}
        if node["class_type"] in KEYFRAME_NODES and short.frames:
            changes["num_frames"] = short.frames
        if short.steps and "steps" in node["inputs"]:
            changes["steps"] = short.steps
        if "precision" in node["inputs"] and not torch.cuda.is_available():
            changes["precision"] = "bf16"  # as the files are: ComfyUI's own choice on a CPU is twice as large
        node["inputs"].update(changes)
    return prompt


def run_prompt(server: Server, prompt: dict[str, Any]) -> Run:
    """Queue and wait; the server's largest memory."""
    begun = time.perf_counter()
    entry = server.finish(server.queue(prompt), seconds=48 * 3600)
    seconds = time.perf_counter() - begun
    succeeded = entry["status"]["status_str"] == "success"
    memory = peak_memory(Path(f"/proc/{server.process_id}/status"))
    return Run(succeeded, memory, None, seconds, "" if succeeded else error_of(entry))
