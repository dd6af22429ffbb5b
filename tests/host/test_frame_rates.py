"""Interpolate to a rate, and Encode Video's part of a video."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.host_graphs import TinyGraph
from tests.helpers.host_media import put_square, read_video
from tests.helpers.host_server import Server, error_of, run_inside
from tests.helpers.video_files import write_with_sound
from tests.host.test_stock import latents_of

pytestmark = [pytest.mark.host, pytest.mark.slow]

SHORT = {"num_frames": 3, "steps": 2}
# Inputs of Interpolate, passes in whose output the frames are, and which: three keyframes at 2 a second.
RATES: list[tuple[dict[str, Any], int, list[int]]] = [
    ({"multiplier": 2}, 1, [0, 2, 4, 6, 8]),
    ({"multiplier": 3}, 1, [0, 1, 3, 4, 5, 7, 8]),
    ({"multiplier": 3, "passes": 2}, 2, [0, 5, 11, 16, 21, 27, 32]),
    ({"multiplier": 4}, 1, list(range(9))),
    ({"multiplier": 8}, 2, list(range(0, 33, 2))),
    ({"multiplier": 16}, 2, list(range(33))),
    (
        {"target_fps": 24.0},
        2,
        [0, 1, 3, 4, 5, 7, 8, 9, 11, 12, 13, 15, 16, 17, 19, 20, 21, 23, 24, 25, 27, 28, 29, 31, 32],
    ),
    ({"target_fps": 8.0}, 1, list(range(9))),
    ({"target_fps": 2.0}, 0, [0, 1, 2]),
]


@pytest.fixture
def square(server: Server) -> str:
    """A video of 5 frames in ComfyUI's input folder."""
    put_square(server.base / "input")
    return "square.mp4"


def test_frames_are_taken_by_time(server: Server) -> None:
    """Of what the passes make; keyframes stay where they were in time."""
    graph = TinyGraph()
    keyframes = graph.sample_keyframes(**SHORT)
    whole = [keyframes, graph.interpolate(keyframes, steps=1), graph.interpolate(keyframes, steps=1, passes=2)]
    made = [graph.interpolate(keyframes, steps=1, **inputs) for inputs, _, _ in RATES]
    found = latents_of(server, graph, *whole, *made)
    for video, (inputs, passes, places) in zip(found[3:], RATES, strict=True):
        assert torch.equal(video, found[passes][:, :, places]), inputs


def test_a_loop_to_a_rate(server: Server) -> None:
    """Three times the frames, and none of the seam's twice."""
    graph = TinyGraph()
    keyframes = graph.sample_keyframes(**SHORT)
    links = [graph.interpolate(keyframes, loop=True), graph.interpolate(keyframes, loop=True, multiplier=3)]
    whole, found = latents_of(server, graph, *links)
    assert torch.equal(found, whole[:, :, [0, 1, 3, 4, 5, 7, 8, 9, 11]])


def test_the_rate_reaches_the_file(server: Server) -> None:
    graph = TinyGraph()
    video = graph.interpolate(graph.sample_keyframes(**SHORT), target_fps=24.0, steps=1)
    graph.save_video(graph.decode(video)[0])
    (file,) = server.saved_files(server.succeed(graph.prompt))
    frames, rate = read_video(file)
    assert (len(frames), rate) == (25, 24.0)


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"target_fps": 33.0}, "target_fps must be from 0.001 to 16 times the 2 frames per second of the input"),
        ({"multiplier": 3, "target_fps": 24.0}, "target_fps must be 0 where multiplier is set; got 24.0"),
        ({"multiplier": 3, "fps": "high"}, "multiplier must be 0 where fps is set; got 3"),
    ],
)
def test_impossible_rates_are_sentences(server: Server, inputs: dict[str, Any], sentence: str) -> None:
    graph = TinyGraph()
    graph.save_latents(graph.interpolate(graph.sample_keyframes(**SHORT), **inputs))
    entry = server.finish(server.queue(graph.prompt))
    assert entry["status"]["status_str"] == "error"
    assert sentence in error_of(entry)


def test_a_part_of_a_video(server: Server, square: str) -> None:
    """Rate, skip, every and cap, in this order, of a video of 5 frames at 8 a second, and of images."""
    graph = TinyGraph()
    inputs = {"vae": graph.vae, "width": 64, "height": 64, "every": 1, "fps": 0.0}
    video = graph.add("LoadVideo", file=square)[0]
    images = graph.add("GetVideoComponents", video=video)[0]
    parts: list[tuple[dict[str, Any], list[int]]] = [
        ({}, [0, 1, 2, 3, 4]),
        ({"skip_first_frames": 2}, [2, 3, 4]),
        ({"frame_load_cap": 2}, [0, 1]),
        ({"skip_first_frames": 1, "every": 2}, [1, 3]),
        ({"skip_first_frames": 1, "every": 2, "frame_load_cap": 1}, [1]),
        ({"force_rate": 4.0}, [0, 2, 4]),
        ({"force_rate": 16.0, "frame_load_cap": 5}, [0, 1, 1, 2, 2]),
    ]
    links = [graph.ours("EncodeVideo", **{**inputs, **part}, video=video)[0] for part, _ in parts]
    links += [graph.ours("EncodeVideo", **{**inputs, **part}, images=images)[0] for part, _ in parts]
    found = latents_of(server, graph, *links)
    for index, latents in enumerate(found):
        part, places = parts[index % len(parts)]
        assert torch.allclose(latents, found[0][:, :, places], atol=1e-6), part


def test_nothing_left_is_a_sentence(server: Server, square: str) -> None:
    graph = TinyGraph()
    inputs = {"vae": graph.vae, "width": 64, "height": 64, "every": 1, "fps": 0.0, "skip_first_frames": 9}
    graph.save_latents(graph.ours("EncodeVideo", **inputs, video=graph.add("LoadVideo", file=square)[0])[0])
    assert "no frame is left of the video: lower skip_first_frames" in error_of(
        server.finish(server.queue(graph.prompt))
    )


WINDOWS = """
import json, sys
file = sys.argv.pop(2)
import inside
pack = inside.start(sys.argv.pop(1))
import torch
from comfy_api.latest import InputImpl
frames, choices = pack("nodes.host.comfy.frame_windows"), pack("fusionframes_core.media.frame_choice")
video, report = InputImpl.VideoFromFile(file), {}
whole = video.get_components()
frames.WINDOW_BYTES, frames.WINDOW_STEP = 1, 8  # 8 frames a window
read = frames.frames_of(video, None, choices.FrameChoice())
pieces = list(read.pieces)
sound = read.audio()
report["pieces"] = [len(piece) for piece in pieces]
report["frames"] = torch.equal(torch.cat(pieces), whole.images)
report["sound"] = [list(sound["waveform"].shape), list(whole.audio["waveform"].shape)]
report["samples"] = float((sound["waveform"] - whole.audio["waveform"]).abs().max())
part = frames.frames_of(video, None, choices.FrameChoice(skip=10, every=2, cap=5))
chosen = torch.cat(list(part.pieces))
report["chosen"] = torch.equal(chosen, whole.images[10:20:2])
rate = whole.audio["sample_rate"]
span = round(10 / 8 * rate)  # ten frames are skipped, and five of every second are as long
report["cut"] = torch.equal(part.audio()["waveform"], whole.audio["waveform"][..., span : 2 * span])
trimmed = InputImpl.VideoFromFile(file, start_time=1.0, duration=2.0)
report["trimmed"] = torch.equal(
    torch.cat(list(frames.frames_of(trimmed, None, choices.FrameChoice()).pieces)), trimmed.get_components().images
)
print("\\n" + json.dumps(report))
"""


def test_a_long_file_is_read_in_windows(comfyui: Any, root: Path, tmp_path: Path) -> None:
    """No more than a window of frames at once, each frame once and as ComfyUI reads it, with the sound that fits."""
    pictures = np.random.default_rng(3).integers(0, 255, (30, 48, 64, 3), np.uint8)
    file = write_with_sound(tmp_path / "long.mp4", pictures, 8, beep=0.5)
    report = json.loads(run_inside(comfyui, "-c", WINDOWS, str(root), str(file))[0].splitlines()[-1])
    print(report)
    assert max(report["pieces"]) <= 9
    assert sum(report["pieces"]) == 30
    assert report["frames"]
    assert report["sound"][0] == report["sound"][1]
    assert report["samples"] == 0
    assert report["chosen"]
    assert report["cut"]
    assert report["trimmed"]
