"""The bundled model: what its folder holds, and what `make demo` runs."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from fusionframes_core.checkpoints.component import COMPONENTS
from fusionframes_core.checkpoints.open_model import load_config, model_folder
from fusionframes_core.media.frames import to_uint8
from fusionframes_core.media.read_video import read_video
from fusionframes_core.pipeline import FusionFramesPipeline
from training.moving_shapes.measure import measure
from training.moving_shapes.prompts_file import read_prompts
from training.moving_shapes.steadiness import shape_share
from training.moving_shapes.track import track

pytestmark = pytest.mark.slow

# Runs a module as `python -m` does and ends with the peak of resident memory in kB.
WITH_PEAK = """
import atexit, runpy, sys
peak = lambda: next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
atexit.register(lambda: print("peak", peak()))
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def pipeline() -> FusionFramesPipeline:
    """The bundled model in 32 bits on the CPU."""
    return FusionFramesPipeline.from_pretrained("tiny", device="cpu")


def test_all_weights_together_are_16_bits_and_at_most_40_mb() -> None:
    files = [model_folder("tiny") / f"{name}.safetensors" for name in COMPONENTS]
    for path in files:
        with safe_open(path, framework="pt") as weights:
            types = {weights.get_slice(key).get_dtype() for key in weights.keys()}  # noqa: SIM118 (no mapping)
        assert types <= {"F16", "BF16"}, path.name
    assert sum(path.stat().st_size for path in files) <= 40e6
    assert load_config(model_folder("tiny")).num_frames == 16


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc, not there")
def test_the_demo_makes_61_frames_within_2_gb(tmp_path: Path, root: Path) -> None:
    video, sheet = tmp_path / "demo.mp4", tmp_path / "demo.png"
    command = ["fusionframes_core", "generate", "--prompt", "a large red circle moving right", "--keyframes", "16"]
    command += ["--passes", "1", "--out", str(video), "--contact-sheet", str(sheet), "--device", "cpu"]
    answer = subprocess.run(
        [sys.executable, "-c", WITH_PEAK, *command], cwd=root, capture_output=True, text=True, check=False, timeout=600
    )
    assert answer.returncode == 0, answer.stderr
    frames, rate = read_video(video)
    assert frames.shape == (61, 64, 64, 3)
    assert rate == Fraction(8)
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert int(answer.stdout.split("peak")[-1]) / 1024**2 <= 2


def test_the_videos_have_the_colour_that_the_prompt_says(pipeline: FusionFramesPipeline, root: Path) -> None:
    """Eight prompts that were kept out of training; `python -m training.evaluate shapes` measures all of them."""
    prompts = read_prompts(root / "training" / "prompts" / "held_out_200.jsonl", 8)
    result = pipeline([prompt.prompt for prompt in prompts], passes=0, seed=0)
    shown = [measure(np.asarray(to_uint8(frames))).colour for frames in result.frames]
    wrong = [(p.prompt, colour) for p, colour in zip(prompts, shown, strict=True) if colour != p.colour]
    assert len(wrong) <= 1, wrong


def test_a_prompt_without_a_motion_shows_its_shape_in_every_frame(pipeline: FusionFramesPipeline, root: Path) -> None:
    """A shape whose angle or place is left open comes out as a blob; `motionless_32.txt` has the other colours too."""
    prompts = read_prompts(root / "training" / "prompts" / "motionless_32.txt", 8)
    result = pipeline([prompt.prompt for prompt in prompts], passes=0, seed=0)
    for prompt, frames in zip(prompts, result.frames, strict=True):
        video = np.asarray(to_uint8(frames))
        assert measure(video).colour == prompt.colour, prompt.prompt
        assert prompt.shape is not None
        assert shape_share(track(video), prompt.shape) == 1, prompt.prompt


def test_a_seed_gives_the_same_video_and_another_seed_another(pipeline: FusionFramesPipeline) -> None:
    first, again, other = (
        pipeline("a small blue star moving up", passes=0, steps=6, seed=seed).frames for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
