"""Counting what videos show, with a perfect generator and with shuffled videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from training.engine.command_line import BadInput
from training.evaluation.shape_accuracy import ShapesRun, run_shapes, score_shapes
from training.evaluation.video_metrics import wilson
from training.moving_shapes.prompts_file import Prompt, make_prompts, parse_prompt
from training.moving_shapes.scenes import keyframe_times, render, sample_scene


def draw(prompts: list[str], seed: int) -> NDArray[np.uint8]:
    """What a perfect generator would make of the prompts."""
    videos = []
    for index, text in enumerate(prompts):
        asked = {key: value for key, value in vars(parse_prompt(text)).items() if key != "prompt" and value}
        scene = sample_scene(np.random.default_rng(seed + index), None, **asked)
        videos.append(render(scene, keyframe_times()))
    return np.stack(videos)


def test_a_perfect_generator_is_right_and_a_shuffled_one_is_not() -> None:
    prompts = make_prompts(22, seed=3)
    videos = draw([prompt.prompt for prompt in prompts], 0)
    report = score_shapes(prompts, videos)
    assert report["reached"]
    assert report["all_right"] == {"right": 22, "of": 22, "share": 1.0, "interval": list(wilson(22, 22))}
    assert sum(entry["motion"]["of"] for entry in report["by_motion"].values()) == 22
    assert all(shown == {asked: shown[asked]} for asked, shown in report["confusion"]["motion"].items())
    shifted = score_shapes(prompts, np.roll(videos, 1, axis=0))
    assert not shifted["reached"]
    assert shifted["accuracy"]["motion"]["share"] < 0.3


def test_what_is_not_asked_for_is_not_counted() -> None:
    report = score_shapes([Prompt("a star", shape="star")], draw(["a star"], 0))
    assert report["accuracy"]["shape"]["of"] == 1
    assert report["accuracy"]["motion"] == {"right": 0, "of": 0, "share": 0.0, "interval": [0.0, 1.0]}


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    prompts, partial = make_prompts(7, seed=1), tmp_path / "rows.jsonl"
    calls: list[int] = []

    def stop_after_two(texts: list[str], seed: int) -> NDArray[np.uint8]:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(seed)
        return draw(texts, seed)

    settings = {"steps": 20}
    with pytest.raises(KeyboardInterrupt):
        run_shapes(prompts, ShapesRun(stop_after_two, settings, seed=5, batch=2), partial)
    calls.clear()
    rest = run_shapes(prompts, ShapesRun(stop_after_two, settings, seed=5, batch=2), partial, resume=True)
    whole = run_shapes(prompts, ShapesRun(draw, settings, seed=5, batch=3))
    assert calls == [9, 11]
    assert rest["rows"] == whole["rows"]
    with pytest.raises(BadInput, match="--resume needs the settings"):
        run_shapes(prompts, ShapesRun(draw, {"steps": 21}), partial, resume=True)
