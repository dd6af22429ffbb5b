"""1.1's keyframes: what the U-Net is given in training is what it is given in sampling; a LoRA of it as a whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from fusionframes_core.checkpoints.convert import save_official_folder
from fusionframes_core.checkpoints.text_encoder_weights import read_tokenizer
from fusionframes_core.models.text_encoder import TextContext
from fusionframes_core.models.unet.unet import KeyframeCondition, UNet
from fusionframes_core.pipeline import FusionFramesPipeline
from fusionframes_core.sampling.keyframe_sampling import first_frame_channels
from tests.helpers.lora_clips import prepared_clips
from tests.helpers.official_cases import small_official, small_parts
from training.data.sources import Drawn
from training.engine.run_settings import TrainSettings
from training.engine.sharding import checkpoint_activations
from training.objectives.adapters import AdapterSettings, LoraModel, layers_named
from training.objectives.denoising import NoiseLevels
from training.objectives.first_frame_objective import FIRST_FRAME_DROP, FirstFrameObjective, FirstFrameTraining
from training.train_lora import LoraStage

CONFIG = small_official("1.1")
TOKENIZER = Path(__file__).resolve().parents[3] / "fusionframes_core" / "tiny" / "tokenizer.json"


class Noise:
    """A source of random clips."""

    def keyframes(self, rng: np.random.Generator, count: int, num_frames: int) -> Drawn:
        """Latents of 4×4."""
        latents = torch.from_numpy(rng.standard_normal((count, 4, num_frames, 4, 4), np.float32))
        text = TextContext(torch.ones(count, 3, 64), torch.ones(count, 3, dtype=torch.bool))
        return Drawn(latents, lambda rng: text, torch.full((count,), 12))


class Seen(nn.Module):
    """Remembers what it was called with, and predicts zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Tensor, Tensor, KeyframeCondition]] = []

    def forward(self, x: Tensor, t: Tensor, condition: KeyframeCondition) -> Tensor:
        """(B, 9, T, h, w) to (B, 4, T, h, w)."""
        self.calls.append((x, t, condition))
        return torch.zeros_like(x[:, :4])


def objective(count: int = 4, **first: Any) -> FirstFrameObjective:
    """Over random clips."""
    source: Any = Noise()
    return FirstFrameObjective(CONFIG, source, count, NoiseLevels(), 1.0, first=FirstFrameTraining(**first))


def test_training_gives_what_sampling_gives() -> None:
    """Without noise on them the first frames are those of `first_frame_channels`; a clip without one has zeros."""
    made = objective(motion="high", noise_augmentation=0)
    batch = {**made.make_batch(np.random.default_rng(0)), "given": torch.tensor([True, True, False, True])}
    model = Seen()
    made.loss(model, batch)
    (clip, t, condition), (still, still_t, alone) = model.calls
    wanted = first_frame_channels(batch["latents"][:, :, :1], 12)
    torch.testing.assert_close(clip[:, 4:][batch["given"]], wanted[batch["given"]], atol=0.05, rtol=0)  # σ(0) is small
    assert not clip[2, 4:].any()
    assert torch.equal(t, batch["t"])
    assert condition.motion_score.tolist() == [50.0] * 4
    assert condition.noise_augmentation.tolist() == [0.0] * 4
    assert condition.positions.tolist() == [list(range(12))] * 4
    assert not condition.image
    assert still.shape == (4, 9, 1, 4, 4)
    assert not still[:, 4:].any()
    assert torch.equal(still_t, batch["still_t"])
    assert alone.image


def test_a_first_frame_carries_its_level_of_noise() -> None:
    """Known to the U-Net, from none to the most; the mask says where it is."""
    made = objective(64, noise_augmentation=300)
    batch = made.make_batch(np.random.default_rng(1))
    assert 0 <= batch["level"].min() < 60
    assert 240 < batch["level"].max() <= 300
    model = Seen()
    made.loss(model, batch)
    clip, _, condition = model.calls[0]
    assert torch.equal(condition.noise_augmentation, batch["level"].float())
    difference = (clip[:, 4:8, :1] - batch["latents"][:, :, :1]).square().flatten(1).mean(dim=1)
    given = batch["given"]
    little, much = difference[given & (batch["level"] < 60)], difference[given & (batch["level"] > 240)]
    assert little.mean() < 0.3 * much.mean()
    assert torch.equal(clip[:, 8, 0].mean(dim=(-2, -1)), given.float())
    assert not clip[:, 4:, 1:].any()


def test_batches_depend_on_their_generator_alone() -> None:
    made = objective()
    first, second = (made.make_batch(np.random.default_rng(5)) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in ("latents", "t", "level", "given", "still"))
    many = objective(2000).make_batch(np.random.default_rng(0))
    assert 1 - many["given"].float().mean().item() == pytest.approx(FIRST_FRAME_DROP, abs=0.03)
    assert set(many["still"].tolist()) == set(range(12))


def test_stills_count_as_often_as_they_are_told() -> None:
    """A model that predicts zeros loses the mean square of the noise: 1 for clips, and once more for each weight."""
    losses = {}
    for weight in (0.0, 1.0, 3.0):
        made, model = objective(64, still_weight=weight), Seen()
        batch = made.make_batch(np.random.default_rng(2))
        torch.manual_seed(0)
        loss, figures = made.loss(model, batch)
        losses[weight] = loss.item()
        assert len(model.calls) == (1 if weight == 0 else 2)
        assert ("loss_still" in figures) == (weight > 0)
    assert losses == {weight: pytest.approx(1 + weight, rel=0.1) for weight in losses}


def test_a_block_computed_again_drops_the_same_inputs() -> None:
    """Checkpointing of a clip and its still in one step changes no gradient, with dropout too."""
    gradients = []
    for again in (False, True):
        torch.manual_seed(3)
        unet = UNet(CONFIG.keyframe)
        model = LoraModel(unet, AdapterSettings(2, dropout=0.3), layers_named(unet, "attention")).train()
        for adapter in model.adapters:
            torch.nn.init.normal_(adapter.lora_B, 0, 0.05)
        if again:
            checkpoint_activations(model)
        made = objective(1)
        batch = made.make_batch(np.random.default_rng(0))
        torch.manual_seed(4)
        made.loss(model, batch)[0].backward()
        gradients.append([adapter.lora_A.grad for adapter in model.adapters])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)


def test_settings_have_ranges() -> None:
    for wrong, words in (
        ({"motion": "wild"}, "motion must be one of low, medium, high, extreme; got 'wild'"),
        ({"noise_augmentation": 1000}, "noise_augmentation must be a whole number from 0 to 999; got 1000"),
        ({"still_weight": -1.0}, "still_weight must be a finite number of at least 0; got -1"),
    ):
        with pytest.raises(ValueError, match=words):
            FirstFrameTraining(**wrong)  # type: ignore[arg-type]


def test_they_are_refused_where_there_is_no_first_frame(tmp_path: Path) -> None:
    """By the bundled model, and by an interpolation U-Net."""
    run = TrainSettings(tmp_path / "run", 1, 1, 1e-3, trackers=[])
    with pytest.raises(ValueError, match=r"motion must be left out .* as tiny's keyframe; got 'high'"):
        LoraStage(run, shape="ring", motion="high").run()
    assert LoraStage(run, part="interpolation")._first_frames(CONFIG) is None
    with pytest.raises(ValueError, match=r"still_weight must be left out .*interpolation; got 0"):
        LoraStage(run, part="interpolation", still_weight=0.0)._first_frames(CONFIG)
    temporal = LoraStage(run, layers="temporal", still_weight=2.0)._first_frames(CONFIG)
    assert temporal is not None
    assert temporal.still_weight == 0


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small 1.1 of random weights in the official layout, and two clips prepared with it."""
    folder = tmp_path_factory.mktemp("first_frame")
    save_official_folder(small_parts("1.1", read_tokenizer(TOKENIZER)), folder / "model")
    return folder / "model", prepared_clips(folder, folder / "model", 32)


@pytest.mark.slow
@pytest.mark.parametrize("layers", ["all", "temporal"])
def test_a_lora_of_1_1(tmp_path: Path, folders: tuple[Path, Path], layers: str) -> None:
    """Four steps, with a sample; the file says how it was trained, changes videos from text and from an image, and is
    nothing at strength 0. Layers that only mix frames leave the still as it is."""
    model, data = folders
    run = TrainSettings(tmp_path / "run", 4, 2, 1e-2, warmup_steps=1, decay_steps=1, ema_decay=0.1, trackers=[])
    run = replace(run, sample_every=4 if layers == "all" else 0, log_every=1)
    LoraStage(run, str(model), data=[data], keyframe_step=1, rank=2, layers=layers, motion="30").run()
    assert (tmp_path / "run" / "samples" / "00000004.mp4").is_file() == (layers == "all")
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert all(("loss_still" in line) == (layers == "all") for line in lines)
    path = tmp_path / "run" / "lora.safetensors"
    with safe_open(str(path), framework="pt") as file:
        said = file.metadata()
    wanted = {"model": "kandinsky-video-1.1", "motion": "30", "noise_augmentation": "20", "frames": "12"}
    assert wanted.items() <= said.items()
    image = torch.rand(3, 32, 32) * 2 - 1
    videos = {}
    for strength in (None, 0.0, 1.0):
        loras = None if strength is None else {path: strength}
        pipeline = FusionFramesPipeline.from_pretrained(str(model), loras=loras)
        text = pipeline.encode_text(["a ring"])
        videos[strength] = [
            pipeline.sample_keyframes(text, height=32, width=32, steps=2, image=given) for given in (None, image)
        ]
    for base, zero, full in zip(*videos.values(), strict=True):
        assert torch.equal(base, zero)
        assert not torch.equal(base, full)
