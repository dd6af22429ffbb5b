"""The shipped workflow run in a real ComfyUI through its API."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fusionframes_core.presets import TINY
from tests.helpers.host_graphs import TinyGraph
from tests.helpers.host_media import read_images, read_video
from tests.helpers.host_server import Listener, Rejected, Server, error_of

pytestmark = [pytest.mark.host, pytest.mark.slow]

Prompt = Callable[..., dict[str, Any]]


# The binary message of words on a node (ComfyUI's protocol.BinaryEventTypes.TEXT); the others here are pictures.
TEXT_EVENT = (3).to_bytes(4, "big")


def test_workflow_makes_a_video(server: Server, listener: Listener, make_prompt: Prompt) -> None:
    """61 frames that change, at four times the keyframes' rate; progress counts every step and shows all keyframes."""
    prompt_id = server.queue(make_prompt())
    entry = server.finish(prompt_id)
    assert entry["status"]["status_str"] == "success", entry["status"]
    (file,) = server.saved_files(entry)
    frames, rate = read_video(file)
    assert frames.shape == (61, 64, 64, 3)
    assert rate == pytest.approx(4 * TINY.fps, rel=0.01)
    assert np.abs(frames[0].astype(int) - frames[30]).mean() > 1
    steps = [message["data"] for message in listener.find("progress", prompt_id=prompt_id)]
    nodes = {step["node"]: step["max"] for step in steps}
    assert sorted(nodes.values()) == sorted((TINY.keyframe_schedule.steps, TINY.interpolation_schedule.steps, 5))
    for node, total in nodes.items():  # the server drops bars that follow too closely, never one with a preview
        values = [step["value"] for step in steps if step["node"] == node]
        assert values == sorted(set(values))
        assert values[-1] == total
        assert total == 5 or len(values) == total
    previews = [message["data"][8:] for message in listener.find("binary") if message["data"][:4] != TEXT_EVENT]
    assert len(previews) >= max(nodes.values())
    sheet = cv2.imdecode(np.frombuffer(previews[0], np.uint8), cv2.IMREAD_COLOR)
    assert sheet.shape == (512, 512, 3)  # 16 keyframes of 8×8 latents, 4 × 4, 16 pixels to a latent


def test_seed_repeats_and_matters(server: Server) -> None:
    """The same seed gives the same frames, also when everything is computed again; another seed others."""
    videos = []
    for seed in (1, 1, 2):
        server.post("/free", {"unload_models": True, "free_memory": True})  # forgets every cached result
        graph = TinyGraph()
        latents = graph.interpolate(graph.sample_keyframes(seed=seed))
        # PNG: the stock Save Video's encoder does not repeat itself bit by bit at this size
        graph.add("SaveImage", images=graph.decode(latents)[1], filename_prefix=f"seed{len(videos)}")
        videos.append(read_images(server.saved_files(server.succeed(graph.prompt))))
    assert len(videos[0]) == 17
    assert np.array_equal(videos[0], videos[1])
    assert not np.array_equal(videos[0], videos[2])


def test_second_pass_and_negative_prompt(server: Server) -> None:
    """Two passes give 4(4T − 3) − 3 frames at 16 times the keyframes' rate."""
    graph = TinyGraph()
    negative = graph.ours("EncodeText", clip=graph.clip, prompt="a small green star")[0]
    latents = graph.interpolate(graph.sample_keyframes(num_frames=3, negative=negative), passes=2)
    graph.save_video(graph.decode(latents)[0])
    frames, rate = read_video(server.saved_files(server.succeed(graph.prompt))[0])
    assert len(frames) == 33
    assert rate == pytest.approx(16 * TINY.fps, rel=0.01)


@pytest.mark.parametrize("node", ["SampleKeyframes", "Interpolate"])
def test_cancel_stops_within_one_step(server: Server, listener: Listener, make_prompt: Prompt, node: str) -> None:
    """After Cancel at most the step in progress is finished, and the next prompt runs as if nothing had been."""
    changes = {"SampleKeyframes": {"steps": 2}, "Interpolate": {"steps": 2}}
    changes[node] = {"steps": 900, "seed": 5}
    prompt = make_prompt(**changes)
    (node_id,) = [key for key, value in prompt.items() if value["class_type"] == f"FusionFrames_{node}"]
    prompt_id = server.queue(prompt)
    listener.wait_for("progress", node=node_id, prompt_id=prompt_id, value=5)
    asked = time.monotonic()
    server.post("/interrupt", {})
    stopped = listener.wait_for("execution_interrupted", prompt_id=prompt_id)["at"]
    steps = listener.find("progress", node=node_id, prompt_id=prompt_id)
    step_seconds = (steps[-1]["at"] - steps[0]["at"]) / (len(steps) - 1)
    late = sum(step["at"] > asked for step in steps)
    print(f"{node}: stopped {stopped - asked:.3f} s after Cancel, a step takes {step_seconds:.3f} s")
    assert late <= 1
    assert stopped - asked < 2 * step_seconds + 0.5
    again = server.finish(server.queue(make_prompt(SampleKeyframes={"steps": 2}, Interpolate={"steps": 2})))
    assert again["status"]["status_str"] == "success"


@pytest.mark.parametrize(
    ("node", "inputs", "sentence"),
    [
        ("SampleKeyframes", {"steps": -1}, "Value -1 smaller than min of 0: steps"),
        ("SampleKeyframes", {"num_frames": -1}, "Value -1 smaller than min of 0: num_frames"),
        ("SampleKeyframes", {"width": 60}, "width and height must be 0 or multiples of 16 from 16 to 2048"),
        (
            "SampleKeyframes",
            {"height": 4096},
            "from 16 to 2048 pixels; got 64×4096",
        ),
        ("SampleKeyframes", {"cfg": -1.0}, "Value -1.0 smaller than min of 0.0: cfg"),
        ("SampleKeyframes", {"sampler": "euler_z"}, "sampler: 'euler_z' not in"),
        ("Interpolate", {"skip_frames": 13}, "Value 13 bigger than max of 12: skip_frames"),
        ("Interpolate", {"perturbation": 251}, "Value 251 bigger than max of 250: perturbation"),
        ("LoadModel", {"model_name": "gone"}, "model_name 'gone' is not there: put its folder"),
        ("LoadModel", {"precision": "fp4"}, "precision: 'fp4' not in"),
        ("Decode", {"fps": -1.0}, "Value -1.0 smaller than min of 0.0: fps"),
        ("Decode", {"chunk": 4, "overlap": 4}, "temporal_overlap must be less than temporal_size (4); got 4"),
    ],
)
def test_bad_value_is_refused(
    server: Server, make_prompt: Prompt, node: str, inputs: dict[str, Any], sentence: str
) -> None:
    """The server refuses to queue it, in one sentence that names the input and what is allowed."""
    with pytest.raises(Rejected) as refusal:
        server.queue(make_prompt(**{node: inputs}))
    assert any(sentence in line for line in refusal.value.sentences), refusal.value.sentences


@pytest.mark.parametrize(
    ("node", "inputs", "sentence"),
    [
        (
            "SampleKeyframes",
            {"cfg": float("nan")},
            "cfg must be 0 (the model's own) or a finite number of at least 1; got nan",
        ),
        (
            "Interpolate",
            {"cfg": float("nan")},
            "cfg must be 0 (the model's own) or a finite number of at least 1; got nan",
        ),
        ("SampleKeyframes", {"num_frames": 1, "steps": 2}, "latents must have at least 2 frames"),
    ],
)
def test_bad_value_fails_before_sampling(
    server: Server, listener: Listener, make_prompt: Prompt, node: str, inputs: dict[str, Any], sentence: str
) -> None:
    """What ComfyUI's own checks let through stops with one sentence before the first step of the node it concerns."""
    entry = server.finish(server.queue(make_prompt(**{"SampleKeyframes": {"steps": 2}, node: inputs})))
    assert entry["status"]["status_str"] == "error"
    assert sentence in error_of(entry)
    assert "\n" not in error_of(entry).strip()


def test_model_folders(server: Server, make_prompt: Prompt, root: Path) -> None:
    """A model folder in models/diffusion_models is offered and works; a truncated file is named in one sentence."""
    for name in ("mine", "broken"):
        shutil.copytree(root / "fusionframes_core" / "tiny", server.base / "models" / "diffusion_models" / name)
    with (server.base / "models" / "diffusion_models" / "broken" / "movq.safetensors").open("r+b") as weights:
        weights.truncate(1000)
    info = server.get("/object_info/FusionFrames_LoadModel")["FusionFrames_LoadModel"]
    assert info["input"]["required"]["model_name"][1]["options"] == ["tiny", "broken", "mine"]
    short = {"SampleKeyframes": {"steps": 2, "num_frames": 2}, "Interpolate": {"steps": 2}}
    entry = server.finish(server.queue(make_prompt(LoadModel={"model_name": "mine"}, **short)))
    assert entry["status"]["status_str"] == "success"
    entry = server.finish(server.queue(make_prompt(LoadModel={"model_name": "broken"}, **short)))
    assert "movq.safetensors" in error_of(entry)
    assert "complete safetensors file" in error_of(entry)


def test_empty_and_overlong_prompts(server: Server, make_prompt: Prompt) -> None:
    """An empty prompt is unconditional; 2,000 words are cut with a warning in the log. Both make a video."""
    for text in ("", "a large red circle moving left " * 334):
        prompt = make_prompt(
            EncodeText={"prompt": text}, SampleKeyframes={"steps": 2, "num_frames": 2}, Interpolate={"steps": 2}
        )
        assert server.finish(server.queue(prompt))["status"]["status_str"] == "success"
    assert "cut" in server.log.read_text()
