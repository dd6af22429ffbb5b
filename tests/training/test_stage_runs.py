"""Every diffusion stage and the decoder stage from its command's function to its file, two steps each."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from safetensors.torch import load_file

from fusionframes_core.checkpoints import load_weights, save_weights
from fusionframes_core.models.masked import MaskedInterpolationUNet
from fusionframes_core.models.movq import MoVQ
from fusionframes_core.models.unet import UNet
from fusionframes_core.presets import TINY
from training import train_decoder, train_interp, train_keyframes
from training.data.preparing import prepare as prepare_videos
from training.data.streams import MovingShapes
from training.data.writing import Recipe
from training.engine import TrainSettings
from training.latents import prepare
from training.train_image import image_config

pytestmark = pytest.mark.slow
BUNDLED = Path(__file__).resolve().parents[2] / "fusionframes_core" / "tiny"


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two clips of each kind."""
    folder = tmp_path_factory.mktemp("clips")
    for kind in ("keyframes", "windows"):
        prepare(folder / f"{kind}.safetensors", BUNDLED / "movq.safetensors", kind, 2, decoder="conv1")
    return {kind: folder / f"{kind}.safetensors" for kind in ("keyframes", "windows")}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random text-to-image weights."""
    path = tmp_path_factory.mktemp("image") / "image.safetensors"
    save_weights(UNet(image_config(TINY.keyframe)).state_dict(), path, dtype=torch.float32)
    return path


def settings(folder: Path, **changes: object) -> TrainSettings:
    """Two steps with everything that a run writes."""
    more = {"warmup_steps": 1, "decay_steps": 1, "log_every": 1, "checkpoint_every": 2, "sample_every": 2}
    return TrainSettings(folder, 2, 1, 1e-3, trackers=[], **{**more, **changes})


@pytest.mark.parametrize("checkpointing", [False, True])
def test_keyframes(tmp_path: Path, clips: dict[str, Path], checkpointing: bool) -> None:
    """From the bundled weights, with activation checkpointing and without: temporal parts alone change."""
    run = settings(tmp_path / "run", activation_checkpointing=checkpointing)
    common = {"text_encoder": BUNDLED, "init": BUNDLED / "keyframe.safetensors", "movq": BUNDLED / "movq.safetensors"}
    train_keyframes.train(run, [clips["keyframes"]], validation_clips=[clips["keyframes"]], **common)
    weights = load_file(tmp_path / "run" / "keyframe.safetensors")
    start = load_file(BUNDLED / "keyframe.safetensors")
    changed = {name for name, value in weights.items() if not torch.equal(value, start[name].float())}
    assert changed
    assert not any(name.startswith("in_layer") for name in changed)
    assert (tmp_path / "run" / "samples" / "00000002.mp4").is_file()
    assert '"val_loss"' in (tmp_path / "run" / "log.jsonl").read_text()


def test_activation_checkpointing_changes_no_number(tmp_path: Path, clips: dict[str, Path]) -> None:
    """What is computed again in the backward pass gives the weights of what was kept."""
    found = []
    for checkpointing in (False, True):
        run = settings(tmp_path / str(checkpointing), activation_checkpointing=checkpointing, sample_every=0)
        common = {"text_encoder": BUNDLED, "init": BUNDLED / "keyframe.safetensors"}
        train_keyframes.train(run, [clips["keyframes"]], **common)
        found.append(load_file(run.output / "keyframe.safetensors"))
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("architecture", ["groups", "masked"])
def test_interpolation(tmp_path: Path, clips: dict[str, Path], image: Path, architecture: str) -> None:
    """Both architectures, from image weights; the masked one's file is one of its model."""
    run = settings(tmp_path / "run")
    common = {"text_encoder": BUNDLED, "image": image, "movq": BUNDLED / "movq.safetensors"}
    windows = [clips["windows"]]
    train_interp.train(run, windows, validation_clips=windows, architecture=architecture, window=9, **common)
    path = tmp_path / "run" / "interpolation.safetensors"
    if architecture == "masked":
        load_weights(MaskedInterpolationUNet(TINY.interpolation), path)
    assert load_file(path)["in_layer.weight"].shape[1] == {"groups": 20, "masked": 9}[architecture]
    assert (tmp_path / "run" / "samples" / "00000002.mp4").is_file()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two videos as `python -m training.prepare` leaves it."""
    folder = tmp_path_factory.mktemp("prepared")
    prepare_videos(MovingShapes(2, 0, False), folder, Recipe(TINY.size, ("latents", "pixels"), min_frames=181))
    return folder


def test_every_stage_trains_on_prepared_videos(tmp_path: Path, prepared: Path) -> None:
    """`data:` instead of `clips:`: text and latents come from the folder, the decoder's pixels too."""
    train_keyframes.train(settings(tmp_path / "k"), data=[prepared], init=BUNDLED / "keyframe.safetensors")
    train_interp.train(settings(tmp_path / "i"), data=[prepared], init=BUNDLED / "interpolation.safetensors")
    image, movq = MoVQ(dataclasses.replace(TINY.movq, decoder="image")), load_file(BUNDLED / "movq.safetensors")
    base = tmp_path / "image.safetensors"
    save_weights({name: movq[name] for name in image.state_dict()}, base, dtype=torch.float32)
    train_decoder.train(settings(tmp_path / "d"), base, frames=4, data=[prepared])
    for name, file in (("k", "keyframe"), ("i", "interpolation"), ("d", "movq")):
        weights = load_file(tmp_path / name / f"{file}.safetensors")
        start = load_file(BUNDLED / f"{file}.safetensors")
        assert weights.keys() == start.keys()
        assert any(not torch.equal(value, start[key].float()) for key, value in weights.items())
        lines = (tmp_path / name / "log.jsonl").read_text().splitlines()
        assert all(0 < json.loads(line)["loss"] < 1 for line in lines)


def test_decoder_with_every_term(tmp_path: Path) -> None:
    """Perceptual and adversarial terms; the judge is in the checkpoint, not in the weights."""
    base = tmp_path / "movq.safetensors"
    save_weights(MoVQ(dataclasses.replace(TINY.movq, decoder="image")).state_dict(), base, dtype=torch.float32)
    terms = {"perceptual_weight": 0.1, "adversarial_weight": 0.1, "decoder": "conv1_attn", "frames": 2}
    train_decoder.train(settings(tmp_path / "run", checkpoint_every=5), base, parts="decoder", **terms)
    weights = load_file(tmp_path / "run" / "movq.safetensors")
    MoVQ(dataclasses.replace(TINY.movq, decoder="conv1_attn")).load_state_dict(weights)
    saved = load_file(tmp_path / "run" / "checkpoints" / "00000002" / "model.safetensors")
    assert any(name.startswith("judge.") for name in saved)
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert all(f'"{name}"' in log for name in ("perceptual", "generator", "judge"))
