"""Every workflow that the tiny model can run, and the nodes that need a video to prove themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from tests.helpers.host_graphs import TinyGraph
from tests.helpers.host_media import read_images, read_video
from tests.helpers.host_server import Server

pytestmark = [pytest.mark.host, pytest.mark.slow]

Prompt = Callable[..., dict[str, Any]]
QUICK = {"SampleKeyframes": {"steps": 2}}
# Workflow → what makes it quick, and the frames and frame rate that it has to give.
WORKFLOWS: dict[str, tuple[dict[str, dict[str, Any]], int, float]] = {
    "text_to_video_tiny": (QUICK, 61, 8.0),
    "stock_sampler_tiny": ({"KSampler": {"steps": 2}}, 61, 8.0),
    "sampling_of_record_tiny": ({"PlanSampling": {"steps": 2}}, 61, 8.0),
    "long_video_tiny": (QUICK, 125, 8.0),
    "loop_tiny": (QUICK, 64, 8.0),
    "interpolate_video_tiny": ({}, 33, 32.0),
    "two_images_to_clip_tiny": ({}, 17, 8.0),
    "first_last_frame_tiny": (QUICK, 61, 8.0),
    "video_to_video_tiny": (QUICK, 9, 8.0),
    "interpolate_video_x16_tiny": ({}, 129, 128.0),
    "stock_sampler_lora_tiny": ({"KSampler": {"steps": 2}}, 61, 8.0),
    "compare_temporal_blocks_tiny": (QUICK, 16, 2.0),
}
OFFICIAL = {"text_to_video_1_0", "text_to_video_1_1", "image_to_video_1_1"}  # see test_official.py
WIDTHS = {"compare_temporal_blocks_tiny": 5 * 64 + 4 * 2}


def test_every_workflow_is_tested(root: Path) -> None:
    """A new workflow comes into the table above."""
    assert {file.stem for file in (root / "workflows").glob("*.json")} == set(WORKFLOWS) | OFFICIAL


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflow_runs(server: Server, make_prompt: Prompt, name: str) -> None:
    """It makes a video of so many frames, at its rate, in which something moves."""
    changes, count, rate = WORKFLOWS[name]
    entry = server.succeed(make_prompt(name, **changes))
    (file,) = server.saved_files(entry)
    frames, found_rate = read_video(file)
    assert frames.shape == (count, 64, WIDTHS.get(name, 64), 3)
    assert found_rate == pytest.approx(rate, rel=0.01)
    assert np.abs(frames[0].astype(int) - frames[count // 2]).mean() > 1


def test_interpolated_video_keeps_its_frames(server: Server, make_prompt: Prompt) -> None:
    """Every fourth frame is the input's (through the autoencoder), and those between change steadily."""
    (file,) = server.saved_files(server.succeed(make_prompt("interpolate_video_tiny")))
    frames = read_video(file)[0].astype(int)
    source = read_video(server.base / "input" / "fusionframes_clip.mp4")[0].astype(int)
    kept = np.abs(frames[::4] - source).mean()
    mixed = np.abs(frames[2::4] - source[:-1]).mean()
    print(f"kept frames differ by {kept:.1f} of 255, those between by {mixed:.1f}")
    assert kept < mixed


def test_conditioning_survives_a_file(server: Server) -> None:
    """Save, load, sample: the same latents, without the text encoder."""
    schedule = {"prompts": "0: a large red circle moving right\n4: a blue star", "num_frames": 5, "blend": True}
    graph = TinyGraph()
    text = graph.ours("SchedulePrompts", clip=graph.clip, **schedule)[0]
    graph.ours("SaveConditioning", text=text, name="kept")
    graph.save_latents(graph.sample_keyframes(text=text), "latents/direct")
    direct = server.saved_files(server.succeed(graph.prompt), "latents")
    graph = TinyGraph()
    graph.save_latents(
        graph.sample_keyframes(text=graph.ours("LoadConditioning", name="kept.safetensors")[0]), "latents/file"
    )
    loaded = server.saved_files(server.succeed(graph.prompt), "latents")
    first, second = (load_file(files[0])["latent_tensor"] for files in (direct, loaded))
    assert first.equal(second)


def test_old_workflows_say_record(server: Server) -> None:
    """'record', which workflows of before 'default' hold for sampler and scheduler, makes the same latents."""
    graph = TinyGraph()
    for name in ("record", "default"):
        keyframes = graph.sample_keyframes(num_frames=3, sampler=name, scheduler=name)
        graph.save_latents(graph.interpolate(keyframes, sampler=name, scheduler=name), f"latents/{name}")
    old, new = server.saved_files(server.succeed(graph.prompt), "latents")
    assert load_file(old)["latent_tensor"].equal(load_file(new)["latent_tensor"])


def test_schedule_moves_from_one_prompt_to_the_other(server: Server) -> None:
    """From a red circle to a blue one: the video begins redder than it ends."""
    graph = TinyGraph()
    lines = "0: a large red circle, standing still\n7: a large blue circle, standing still"
    text = graph.ours("SchedulePrompts", clip=graph.clip, prompts=lines, num_frames=8, blend=True)[0]
    latents = graph.sample_keyframes(text=text, num_frames=8, steps=6)
    graph.add("SaveImage", images=graph.decode(latents)[1], filename_prefix="schedule")
    frames = read_images(server.saved_files(server.succeed(graph.prompt))).astype(int)
    redness = [float((frame[..., 2] - frame[..., 0]).mean()) for frame in frames]
    print(f"red minus blue, frame by frame: {[round(value) for value in redness]}")
    assert redness[0] > redness[-1] + 5


def test_loop_closes(server: Server) -> None:
    """With Loop the step from the last keyframe to the first is like any other; without it is a jump."""
    graph = TinyGraph("a large red circle moving right")
    looped = graph.ours("CloseLoop", model=graph.keyframes)[0]
    for name, model in (("plain", graph.keyframes), ("loop", looped)):
        graph.save_latents(graph.sample_keyframes(model=model, num_frames=16, steps=8), f"latents/{name}")
    files = {file.name.split("_")[0]: file for file in server.saved_files(server.succeed(graph.prompt), "latents")}
    seams = {name: seam(load_file(file)["latent_tensor"]) for name, file in files.items()}
    print(f"seam against the other steps: {seams}")
    assert seams["loop"] < 2 < seams["plain"]


def test_the_loop_workflow_does_not_flash(server: Server, make_prompt: Prompt) -> None:
    """As it ships: the background stays within 20 levels of 256, and no more moves over the seam than elsewhere."""
    (file,) = server.saved_files(server.succeed(make_prompt("loop_tiny")))
    frames = read_video(file)[0].astype(float)
    edges = (frames[:, :3], frames[:, -3:], frames[:, :, :3], frames[:, :, -3:])
    border = np.concatenate([edge.reshape(len(frames), -1, 3) for edge in edges], axis=1)
    levels = np.median(border, axis=1).mean(axis=1)
    moved = np.abs(np.roll(frames, -1, axis=0) - frames).mean(axis=(1, 2, 3))  # the last: over the seam
    steps = np.abs(np.roll(levels, -1) - levels)
    print(f"background {levels.min():.0f} to {levels.max():.0f}, steps to {steps.max():.1f}, seam {steps[-1]:.1f}")
    assert levels.max() - levels.min() <= 20
    assert steps.max() <= 8
    assert moved[-1] <= 2 * np.median(moved)


def seam(latents: Any) -> float:
    """The change from the last frame to the first, relative to the mean change between neighbours."""
    steps = (latents[:, :, 1:] - latents[:, :, :-1]).abs().mean()
    return float((latents[:, :, 0] - latents[:, :, -1]).abs().mean() / steps)
