"""Every diffusion stage and the decoder stage from its command's function to its file, two steps each."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fusionframes_core.checkpoints.open_model import load_weights
from fusionframes_core.checkpoints.state_dict import save_weights
from fusionframes_core.models.movq.movq import MoVQ
from fusionframes_core.models.unet.masked_unet import MaskedInterpolationUNet
from fusionframes_core.models.unet.unet import UNet
from fusionframes_core.presets import TINY
from training.assemble import check_conditioning
from training.data.preparing import prepare as prepare_videos
from training.data.recipe import Recipe
from training.data.streams import MovingShapes
from training.engine.run_settings import TrainSettings
from training.latents import prepare
from training.objectives.initial_weights import image_config
from training.objectives.interpolation_objective import draw_perturbation
from training.train_autoencoder import AutoencoderStage
from training.train_decoder import DecoderStage
from training.train_image import ImageStage
from training.train_interp import InterpolationStage
from training.train_keyframes import KeyframeStage
from training.train_lora import LoraStage

pytestmark = pytest.mark.slow
BUNDLED = Path(__file__).resolve().parents[2] / "fusionframes_core" / "tiny"


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
    KeyframeStage(run, [clips["keyframes"]], validation_clips=[clips["keyframes"]], **common).run()
    weights = load_file(tmp_path / "run" / "keyframe.safetensors")
    start = load_file(BUNDLED / "keyframe.safetensors")
    changed = {name for name, value in weights.items() if not torch.equal(value, start[name].float())}
    assert changed
    assert not any(name.startswith("in_layer") for name in changed)
    assert (tmp_path / "run" / "samples" / "00000002.mp4").is_file()
    assert '"val_loss"' in (tmp_path / "run" / "log.jsonl").read_text()


def test_all_of_a_keyframe_unet_trains(tmp_path: Path, clips: dict[str, Path]) -> None:
    """Image weights too; a run of temporal parts alone does not go on from there."""
    common = {"text_encoder": BUNDLED, "init": BUNDLED / "keyframe.safetensors"}
    run = settings(tmp_path / "run", sample_every=0)
    KeyframeStage(run, [clips["keyframes"]], parts="all", **common).run()
    weights, start = load_file(run.output / "keyframe.safetensors"), load_file(BUNDLED / "keyframe.safetensors")
    changed = {name for name, value in weights.items() if not torch.equal(value, start[name].float())}
    assert "in_layer.weight" in changed
    assert any(".temporal" in name for name in changed)
    with pytest.raises(ValueError, match="parts must be one of temporal, all; got 'image'"):
        KeyframeStage(run, [clips["keyframes"]], parts="image", **common).run()
    with pytest.raises(ValueError, match="does not fit: the model has changed since"):
        KeyframeStage(run, [clips["keyframes"]], **common).run()


def test_activation_checkpointing_changes_no_number(tmp_path: Path, clips: dict[str, Path]) -> None:
    """What is computed again in the backward pass gives the weights of what was kept."""
    found = []
    for checkpointing in (False, True):
        run = settings(tmp_path / str(checkpointing), activation_checkpointing=checkpointing, sample_every=0)
        common = {"text_encoder": BUNDLED, "init": BUNDLED / "keyframe.safetensors"}
        KeyframeStage(run, [clips["keyframes"]], **common).run()
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
    InterpolationStage(run, windows, validation_clips=windows, architecture=architecture, window=9, **common).run()
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


@pytest.fixture(scope="module")
def image_movq(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image autoencoder inside the bundled one."""
    image, movq = MoVQ(dataclasses.replace(TINY.movq, decoder="image")), load_file(BUNDLED / "movq.safetensors")
    path = tmp_path_factory.mktemp("movq") / "image.safetensors"
    save_weights({name: movq[name] for name in image.state_dict()}, path, dtype=torch.float32)
    return path


def on_prepared(stage: str, run: TrainSettings, data: list[Path], image_movq: Path) -> None:
    """Train a stage on folders that training.prepare wrote, measured on them where it measures."""
    movq, held_out = BUNDLED / "movq.safetensors", {"validation_data": data}
    if stage == "keyframe":
        init = BUNDLED / "keyframe.safetensors"
        KeyframeStage(run, data=data, init=init, text_encoder=BUNDLED, movq=movq, **held_out).run()
    elif stage == "interpolation":
        InterpolationStage(run, data=data, init=BUNDLED / "interpolation.safetensors", movq=movq, **held_out).run()
    elif stage == "movq":
        DecoderStage(run, image_movq, frames=4, data=data).run()
    elif stage == "image":
        ImageStage(run, data=data, **held_out).run()
    elif stage == "autoencoder":
        AutoencoderStage(run, init=image_movq, data=data).run()
    else:
        LoraStage(run, part=stage.removeprefix("lora "), data=data).run()


@pytest.mark.parametrize(
    ("stage", "file", "held_out", "samples"),
    [
        ("keyframe", "keyframe", True, True),
        ("interpolation", "interpolation", True, True),
        ("movq", "movq", False, True),
        ("image", "image", True, False),
        ("autoencoder", "movq", False, False),
        ("lora keyframe", "lora", False, True),
        ("lora interpolation", "lora", False, True),
    ],
)
def test_every_stage_trains_on_prepared_videos(
    tmp_path: Path, prepared: Path, image_movq: Path, stage: str, file: str, held_out: bool, samples: bool
) -> None:
    """`data:` instead of `clips:`: text, latents and pixels come from the folder, with samples and held-out losses."""
    on_prepared(stage, settings(tmp_path / "run", sample_every=2 if samples else 0), [prepared], image_movq)
    weights = load_file(tmp_path / "run" / f"{file}.safetensors")
    assert all(value.isfinite().all() for value in weights.values())
    if stage in ("keyframe", "interpolation", "movq"):
        start = load_file(BUNDLED / f"{file}.safetensors")
        assert weights.keys() == start.keys()
        assert any(not torch.equal(value, start[key].float()) for key, value in weights.items())
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert all(0 < line["loss"] < 10 for line in lines)
    assert ("val_loss" in lines[-1]) == held_out
    assert (tmp_path / "run" / "samples" / "00000002.mp4").is_file() == samples


def test_what_cannot_be_drawn_is_said_before_anything_is_written(
    tmp_path: Path, clips: dict[str, Path], prepared: Path
) -> None:
    """Clips of the other kind, files that hold no clips, unknown presets and bases, samples without what they need."""
    run, encoder = settings(tmp_path / "run", sample_every=0), {"text_encoder": BUNDLED}
    weights = BUNDLED / "keyframe.safetensors"
    calls = [
        (KeyframeStage, {"clips": [clips["windows"]], "init": weights, **encoder}, "clips must have 16 frames"),
        (
            KeyframeStage,
            {"clips": [weights], "init": weights, **encoder},
            "clips must name files that training",
        ),
        (
            KeyframeStage,
            {"data": [prepared], "init": weights, "preset": "papre"},
            "preset must be one of .*papre",
        ),
        (LoraStage, {"data": [prepared], "shape": "ring"}, "one of data, clips and shape"),
        (
            KeyframeStage,
            {"data": [prepared], "init": weights, "high_share": 3},
            "high_share must be from 0 to 1",
        ),
        (DecoderStage, {"movq": BUNDLED / "movq.safetensors", "frames": 0}, "frames must be at least 1; got 0"),
    ]
    interpolation = {"init": BUNDLED / "interpolation.safetensors"}
    few, foo = "clips must have at least 33 frames", "base must be one of zero, blend; got 'foo'"
    calls += [
        (InterpolationStage, {"clips": [clips["keyframes"]], **interpolation, **encoder}, few),
        (InterpolationStage, {"data": [prepared], **interpolation, "base": "foo"}, foo),
        (
            InterpolationStage,
            {"data": [prepared], **interpolation, "perturbed_share": 7},
            "perturbed_share must be from",
        ),
    ]
    for stage, arguments, message in calls:
        with pytest.raises(ValueError, match=message):
            stage(run, **arguments).run()
    with pytest.raises(ValueError, match="sample_every needs text_encoder"):
        KeyframeStage(settings(tmp_path / "run"), data=[prepared], init=weights).run()
    with pytest.raises(ValueError, match="sample_every needs movq"):
        InterpolationStage(settings(tmp_path / "run"), data=[prepared], **interpolation).run()
    assert not (tmp_path / "run").exists()


def test_a_preset_may_be_a_file(tmp_path: Path, prepared: Path) -> None:
    """A config.json of any size: here the bundled one's, with a wider trunk."""
    config = json.loads((BUNDLED / "config.json").read_text())
    config["keyframe"]["model_channels"] *= 2
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    for number, name in enumerate((tmp_path / "model", tmp_path / "model" / "config.json")):
        run = settings(tmp_path / str(number), sample_every=0)
        ImageStage(run, data=[prepared], preset=str(name)).run()
        wide = load_file(run.output / "image.safetensors")
        narrow = load_file(BUNDLED / "keyframe.safetensors")
        assert any(wide[key].shape != narrow[key].shape for key in wide.keys() & narrow.keys())


def test_another_conditioning_does_not_go_on_from_a_checkpoint(tmp_path: Path, prepared: Path) -> None:
    """attn1d and attn3d have the same names and shapes; what they compute is not the same."""
    common = {"data": [prepared], "init": BUNDLED / "keyframe.safetensors"}
    KeyframeStage(settings(tmp_path / "run", sample_every=0), **common).run()
    with pytest.raises(ValueError, match=r"keyframe.temporal was 'conv1d_attn1d_blocks' and is 'conv1d_attn3d_blocks'"):
        KeyframeStage(settings(tmp_path / "run", sample_every=0), temporal="conv1d_attn3d_blocks", **common).run()


def test_finished_models_start_the_stages_that_begin_from_images(tmp_path: Path, prepared: Path) -> None:
    """Their image parts: of the keyframe U-Net for both interpolations, of MoVQ for any decoder."""
    start = {"image": BUNDLED / "keyframe.safetensors"}
    for architecture in ("groups", "masked"):
        run = settings(tmp_path / architecture, sample_every=0)
        InterpolationStage(run, data=[prepared], architecture=architecture, **start).run()
    run = settings(tmp_path / "keyframes", sample_every=0)
    KeyframeStage(run, data=[prepared], temporal="conv3d_attn1d_blocks", **start).run()
    kept, found = load_file(start["image"]), load_file(tmp_path / "keyframes" / "keyframe.safetensors")
    assert torch.equal(found["in_layer.weight"], kept["in_layer.weight"].float())
    run = settings(tmp_path / "decoder", sample_every=0)
    DecoderStage(run, BUNDLED / "movq.safetensors", decoder="conv3", frames=4, data=[prepared]).run()
    with pytest.raises(ValueError, match="keyframe must be of the preset's conditioning, conv1d_attn1d_blocks"):
        check_conditioning(tmp_path / "keyframes" / "keyframe.safetensors", TINY.keyframe.temporal)
    check_conditioning(tmp_path / "keyframes" / "keyframe.safetensors", "conv3d_attn1d_blocks")
    with pytest.raises(ValueError, match="is a MoVQ autoencoder"):
        KeyframeStage(run, data=[prepared], image=BUNDLED / "movq.safetensors").run()


def test_perturbation_levels_reach_both_ends() -> None:
    """Section 5: 0 to 250 steps, also where every clip is perturbed; sampling uses 0."""
    levels = draw_perturbation(np.random.default_rng(0), 5000, 250, 1.0)
    assert (int(levels.min()), int(levels.max())) == (0, 250)
    some = draw_perturbation(np.random.default_rng(0), 5000, 250, 0.25)
    assert 0.7 < float((some == 0).float().mean()) < 0.8


def test_decoder_with_every_term(tmp_path: Path) -> None:
    """Perceptual and adversarial terms; the judge is in the checkpoint, not in the weights."""
    base = tmp_path / "movq.safetensors"
    save_weights(MoVQ(dataclasses.replace(TINY.movq, decoder="image")).state_dict(), base, dtype=torch.float32)
    terms = {"perceptual_weight": 0.1, "adversarial_weight": 0.1, "decoder": "conv1_attn", "frames": 2}
    DecoderStage(settings(tmp_path / "run", checkpoint_every=5), base, parts="decoder", **terms).run()
    weights = load_file(tmp_path / "run" / "movq.safetensors")
    MoVQ(dataclasses.replace(TINY.movq, decoder="conv1_attn")).load_state_dict(weights)
    saved = load_file(tmp_path / "run" / "checkpoints" / "00000002" / "model.safetensors")
    assert any(name.startswith("judge.") for name in saved)
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert all(f'"{name}"' in log for name in ("perceptual", "generator", "judge"))
