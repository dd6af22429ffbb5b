"""A graph of our nodes in which nothing was set makes what the loaded model makes by itself, whichever it is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fusionframes_core.checkpoints.component import ModelParts, build
from fusionframes_core.checkpoints.model_folder import save_model_folder
from fusionframes_core.checkpoints.text_encoder_weights import read_tokenizer
from fusionframes_core.media.frames import to_uint8
from fusionframes_core.models.text_encoder import TextEncoder
from fusionframes_core.pipeline import FusionFramesPipeline
from tests.helpers.host_graphs import Untouched
from tests.helpers.host_media import read_images
from tests.helpers.host_official import FOLDERS, TOKENIZER, install, small_model, tamed, uninstall
from tests.helpers.host_server import Rejected, Server, error_of
from tests.helpers.official_cases import random_model

pytestmark = [pytest.mark.host, pytest.mark.slow]

PROMPT = "a large red circle moving right"
STEPS = {"1.0": (6, 4), "1.1": (5, 3)}  # of both stages: else as the official ones, which take minutes on a CPU


@pytest.fixture(scope="module")
def folders(server: Server) -> Iterator[dict[str, Path]]:
    """By name: model folders of tiny and of small 1.0 and 1.1 that say other sizes and steps than tiny's."""
    place = server.base / "models" / "diffusion_models"
    found = {"tiny": TOKENIZER.parent} | {f"small-{version}": place / f"small-{version}" for version in STEPS}
    for version in STEPS:
        save_model_folder(small_parts(version), found[f"small-{version}"], dtype=torch.float32)
    yield found
    for version in STEPS:
        shutil.rmtree(found[f"small-{version}"])


def small_parts(version: str) -> ModelParts:
    """Random weights; size, number of keyframes and steps are the config's own."""
    torch.manual_seed(5)
    config = small_model(version)
    first, second = STEPS[version]
    config = replace(
        config,
        size=(64, 96),
        num_frames=5,
        keyframe_schedule=replace(config.keyframe_schedule, steps=first),
        interpolation_schedule=replace(config.interpolation_schedule, steps=second),
    )
    text = random_model(TextEncoder(config.text, read_tokenizer(TOKENIZER)))
    names = [name for name in ("keyframe", "interpolation", "movq", "image_movq") if getattr(config, name) is not None]
    return ModelParts(
        config, text_encoder=text, **{name: tamed(random_model(build(getattr(config, name)))) for name in names}
    )


def video_of(graph: Untouched, name: str) -> None:
    """Load Model → Encode Text → keyframes → Interpolate → Decode → PNG files."""
    loaded = graph.node("LoadModel", model_name=name, precision="fp32")
    text = graph.node("EncodeText", clip=loaded[2], prompt=PROMPT)[0]
    inputs = {"model": loaded[0], "text": text}
    if "1.1" in name:
        image = graph.node("DrawFirstFrame", **inputs, vae=loaded[4])[0]
        keyframes = graph.node("ImageToVideo", **inputs, vae=loaded[4], image=image)[0]
    else:
        keyframes = graph.node("SampleKeyframes", **inputs)[0]
    frames = graph.node("Interpolate", model=loaded[1], latents=keyframes, text=text)[0]
    images = graph.node("Decode", vae=loaded[3], latents=frames)[1]
    graph.add("SaveImage", images=images, filename_prefix=f"untouched/{name}")


@pytest.mark.parametrize("name", ["tiny", "small-1.0", "small-1.1"])
def test_nothing_touched_is_the_models_own_video(server: Server, folders: dict[str, Path], name: str) -> None:
    """The same frames as core's pipeline with no setting but the prompt."""
    graph = Untouched(server)
    video_of(graph, name)
    found = read_images(server.saved_files(server.succeed(graph.prompt)))
    pipeline = FusionFramesPipeline.from_pretrained("tiny" if name == "tiny" else folders[name])
    result = pipeline(PROMPT)
    wanted = to_uint8(result.frames[0])[..., ::-1]
    gaps = np.abs(found.astype(int) - wanted.astype(int))
    print(f"{name}: {found.shape}, frames differ by {gaps.mean():.4f} of 255 in the mean, {gaps.max()} at most")
    assert found.shape == (4 * pipeline.config.num_frames - 3, *pipeline.config.size, 3)
    assert gaps.max() <= 2  # PNG files are cut off where core rounds


def test_official_files_bring_the_official_values(server: Server, listener: Any) -> None:
    """Read off files that say no size, steps or number of frames: the node shows them."""
    models = server.base / "models"
    try:
        for version, count in (("1.0", 15), ("1.1", 12)):
            install(version, models)
            graph = Untouched(server)
            loaded = graph.node("LoadModel", model_name=FOLDERS[version], precision="fp32")
            latents = graph.node("EmptyVideoLatent", model=loaded[0])[0]
            graph.add("SaveLatent", samples=latents, filename_prefix="untouched/empty")
            server.succeed(graph.prompt)
            assert shown(listener, f"512×512 pixels, {count} keyframes, 2 fps")
    finally:
        for version in FOLDERS:
            uninstall(version, models)


def shown(listener: Any, words: str) -> bool:
    """Whether a node showed these words."""
    return any(words in str(message["data"], "utf-8", "replace") for message in listener.find("binary"))


def test_values_that_need_a_model_say_so(server: Server) -> None:
    graph = Untouched(server)
    graph.add("SaveLatent", samples=graph.node("EmptyVideoLatent")[0], filename_prefix="untouched/none")
    sentence = error_of(server.finish(server.queue(graph.prompt)))
    assert "width and height and num_keyframes and fps must be above 0 where no model is connected" in sentence


def test_a_cfg_between_none_and_the_models_own_is_refused(server: Server) -> None:
    graph = Untouched(server)
    loaded = graph.node("LoadModel", model_name="tiny")
    text = graph.node("EncodeText", clip=loaded[2])[0]
    latents = graph.node("SampleKeyframes", model=loaded[0], text=text, cfg=0.5, num_frames=2, steps=20)[0]
    graph.add("SaveLatent", samples=latents, filename_prefix="untouched/cfg")
    try:
        sentence = error_of(server.finish(server.queue(graph.prompt)))
    except Rejected as refusal:
        sentence = " ".join(refusal.sentences)
    assert "cfg must be 0 (the model's own) or a finite number of at least 1; got 0.5" in sentence
