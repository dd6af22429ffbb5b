"""Whole official pipelines, prompt to frames, against ours: recorded in pipelines/, and live where their code is.

Ours is what a user does: the official files in a folder, `from_pretrained`, a prompt. float32, CPU.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import fusionframes_core.image_to_video as first_frames
import fusionframes_core.pipeline as pipelines
from benchmarks.official_stages import VARIABLE, work_trees
from fusionframes_core.media.frames import to_pixels, to_uint8
from fusionframes_core.pipeline import FusionFramesPipeline, GenerationResult
from fusionframes_core.sampling.noise import NoiseSource
from tests.helpers.parity_cases import relative_error
from tests.helpers.pipeline_cases import CASES, FOLDER, PipelineCase, in_our_layout, read_case, write_official_files

TOLERANCE = 1e-4
Picture = np.ndarray
ROOT = Path(__file__).resolve().parents[2]
# The official arguments → ours.
NAMES = {
    "text": "prompt",
    "negative_text": "negative_prompt",
    "guidance_weight_image": "image_guidance",
    "guidance_weight_prompt": "guidance",
}
OFFICIAL_WAYS = {"1.0": {"decode_windows": "official", "negative": "official"}}
OFFICIAL_WAYS["1.1"] = {**OFFICIAL_WAYS["1.0"], "image_fit": "official"}
NEEDED = {"1.0": ("einops", "tqdm"), "1.1": ("einops", "tqdm", "diffusers")}  # by the official pipelines


class Ours:
    """Our pipeline's answers to the calls of cases; each is given once."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.answers: dict[str, GenerationResult] = {}

    def answer(self, case: PipelineCase) -> GenerationResult:
        """With every official way of doing things by its name.

        What 1.1 draws as a first image is cut off to 8 bits, where the last bit of a float32 is now and then a whole
        level: both then go on from the official one.
        """
        if case.name not in self.answers:
            drawn = case.outputs.get("drawn")
            picture = case.picture if drawn is None else drawn[0].numpy()
            self.answers[case.name] = self.run(case, picture, **OFFICIAL_WAYS[case.version])
        return self.answers[case.name]

    def run(self, case: PipelineCase, picture: Picture | None, **ways: str) -> GenerationResult:
        """With a first image, and other ways."""
        folder = self.place / case.version
        if not folder.exists():
            write_official_files(case.networks, folder)
        call = {NAMES.get(name, name): value for name, value in case.call.items()}
        size = (call.pop("height"), call.pop("width"))
        if "steps" in call:
            call["interpolation_steps"] = call["steps"]
        image = None if picture is None else to_pixels(picture[None])[:, 0]
        noises: dict[str, NoiseSource] = {}

        def noise(seed: int, stage: str, batch: int, device: Any) -> NoiseSource:
            return noises.setdefault(stage, case.noise_of(stage))

        with pytest.MonkeyPatch.context() as patch:
            if not case.is_seeded:
                for module in (pipelines, first_frames):
                    patch.setattr(module, "stage_noise", noise)
            return FusionFramesPipeline.from_pretrained(folder)(**call, **ways, size=size, image=image)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Ours:
    return Ours(tmp_path_factory.mktemp("official"))


def assert_same(result: GenerationResult, outputs: dict[str, Tensor]) -> None:
    """Latents to 1e-4 of their largest, pixels to one level of 255; cut off to 8 bits, as the official code does it,
    nearly all are equal."""
    wanted = outputs["frames"].numpy().astype(int)
    cut = ((result.frames[0].permute(1, 2, 3, 0) + 1) / 2 * 255).to(torch.uint8).numpy().astype(int)
    found = {
        "keyframes": relative_error(result.keyframe_latents, in_our_layout(outputs["keyframes"])),
        "latents": relative_error(result.latents, in_our_layout(outputs.get("latents", outputs["keyframes"]))),
        "levels": float(np.abs(to_uint8(result.frames[0]).astype(int) - wanted).max()),
        "pixels that differ when cut off": float((cut != wanted).mean()),
    }
    print({name: f"{value:.1e}" for name, value in found.items()})
    assert found["keyframes"] <= TOLERANCE
    assert found["latents"] <= TOLERANCE
    assert found["levels"] <= 1
    assert found["pixels that differ when cut off"] <= 0.01


def test_what_is_covered() -> None:
    """Both versions, every speed, text and image, negative and long prompts."""
    called = {(case.version, case.call["fps"], case.image is not None) for case in CASES}
    assert {("1.0", "low", False), ("1.0", "high", False)} <= called
    assert {("1.1", "medium", True), ("1.1", "medium", False), ("1.1", "low", True)} <= called
    for version in NEEDED:
        calls = [case.call for case in CASES if case.version == version]
        assert any(call.keys() & {"negative_text", "negative_prompt"} for call in calls)
        assert any(len(call.get("text", call.get("prompt", "")).split()) >= 200 for call in calls)
        assert any(case.is_seeded for case in CASES if case.version == version)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_recorded(case: PipelineCase, ours: Ours) -> None:
    assert_same(ours.answer(case), case.outputs)


@pytest.mark.slow
def test_a_first_image_that_is_drawn(ours: Ours, monkeypatch: pytest.MonkeyPatch) -> None:
    """1.1 without an image: the still's latents to 1e-4, its pixels within a level and nearly all equal in 8 bits, and
    the video of the whole run within a level."""
    case = next(case for case in CASES if case.name == "kv11_t2v")
    seen = {}
    sample, draw = first_frames.sample_image, first_frames.draw_first_frame
    monkeypatch.setattr(first_frames, "sample_image", lambda *given: seen.setdefault("still", sample(*given)))
    monkeypatch.setattr(first_frames, "draw_first_frame", lambda *given: seen.setdefault("drawn", draw(*given)))
    result = ours.run(case, None, **OFFICIAL_WAYS["1.1"])
    assert relative_error(seen["still"], case.outputs["still"].transpose(0, 1)[None]) <= TOLERANCE
    levels = ((seen["drawn"][0].permute(1, 2, 0) + 1) * 127.5).to(torch.uint8).int() - case.outputs["drawn"][0].int()
    print(f"{(levels != 0).sum()} of {levels.numel()} numbers are another level")
    assert levels.abs().max() <= 1
    assert (levels != 0).float().mean() < 1e-3
    frames = to_uint8(result.frames[0]).astype(int) - case.outputs["frames"].numpy().astype(int)
    assert np.abs(frames).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "ways"),
    [("kv10_negative", {"negative": "own"}), ("kv10_negative_short", {"negative": "own"})],
)
def test_another_way_is_another_video(name: str, ways: dict[str, str], ours: Ours) -> None:
    """What the cases are there for moves the latents by far more than is tolerated."""
    case = next(case for case in CASES if case.name == name)
    result = ours.run(case, case.picture, **{**OFFICIAL_WAYS[case.version], **ways})
    assert relative_error(result.keyframe_latents, in_our_layout(case.outputs["keyframes"])) > 10 * TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_live(case: PipelineCase, ours: Ours, tmp_path: Path) -> None:
    """The official code of today's work trees makes what was recorded, and ours makes that."""
    if case.version not in work_trees():
        pytest.skip(f"the official code of {case.version} is not there: {VARIABLE} names no work tree of it")
    missing = [name for name in NEEDED[case.version] if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"the official code of {case.version} needs {', '.join(missing)}, which is not installed")
    made = tmp_path / f"{case.name}.safetensors"
    source = FOLDER / f"{case.name}.safetensors"
    command = [sys.executable, "-m", "tests.parity.official_run", str(source), str(made)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    outputs = read_case(made, FOLDER).outputs
    assert relative_error(outputs["keyframes"], case.outputs["keyframes"]) <= TOLERANCE
    assert_same(ours.answer(case), outputs)
