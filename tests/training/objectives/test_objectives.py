"""What the stages build and minimise: decoders of Table 3, their terms, the paper's and the tiny configs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from fusionframes_core.checkpoints.state_dict import save_weights
from fusionframes_core.models.movq.movq import MoVQ
from fusionframes_core.models.movq.movq_temporal import DECODERS
from fusionframes_core.models.temporal import temporal_parameters
from fusionframes_core.models.unet.interpolation_unet import InterpolationUNet
from fusionframes_core.models.unet.unet import UNet
from fusionframes_core.presets import PAPER, PRESETS, TINY
from training.engine.stage_command import parse
from training.moving_shapes.scenes import NEW_SHAPES, render, sample_scene
from training.objectives.decoder_objective import VideoDecoder, decoder_model
from training.objectives.perceptual_loss import Discriminator, adversarial_losses, feature_distance
from training.train_autoencoder import AutoencoderStage
from training.train_decoder import DecoderStage
from training.train_image import ImageStage
from training.train_interp import InterpolationStage
from training.train_keyframes import KeyframeStage
from training.train_lora import LoraStage
from training.train_text_encoder import TextEncoderStage

CONFIGS = Path(__file__).resolve().parents[3] / "training" / "configs"
STAGES = {
    "autoencoder": AutoencoderStage,
    "decoder": DecoderStage,
    "image_decoder": AutoencoderStage,
    "image": ImageStage,
    "interp": InterpolationStage,
    "keyframes": KeyframeStage,
    "lora": LoraStage,
    "text_encoder": TextEncoderStage,
}


def stage_of(path: Path) -> str:
    """tiny_image_decoder_2.yaml is of stage image_decoder."""
    return max((name for name in STAGES if path.stem.split("_", 1)[1].startswith(name)), key=len)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_is_one_of_its_stage(path: Path) -> None:
    """Keys and types are those of the stage; presets and choices exist."""
    found = parse(STAGES[stage_of(path)], ["--config", str(path)])
    assert found.get("preset", "tiny") in PRESETS


@pytest.mark.parametrize(
    ("stage", "steps", "accumulation"), [("keyframes", 100_000, 2), ("interp", 50_000, 4), ("decoder", 50_000, 1)]
)
def test_paper_configs_say_what_section_5_says(stage: str, steps: int, accumulation: int) -> None:
    found = parse(STAGES[stage], ["--config", str(CONFIGS / f"paper_{stage}.yaml")])
    run = found["train"]
    assert (run.steps, run.batch_size, run.accumulation, run.shard) == (steps, 1, accumulation, "optimizer")
    assert (run.learning_rate, run.optimizer) == (1e-4, "adamw")
    assert {run.rate(step) for step in (0, 1, steps // 2, steps - 1)} == {1.0}
    assert found["preset"] == "paper"
    assert {"keyframes": 16, "interp": found.get("window"), "decoder": found.get("frames")}[stage] == {
        "keyframes": PAPER.num_frames,
        "interp": 33,
        "decoder": 8,
    }[stage]


def test_the_papers_models_can_be_built() -> None:
    """On the meta device: 16 keyframes by ε, interpolation by v, sizes of section 4."""
    keyframe, groups = UNet(PAPER.keyframe, device="meta"), InterpolationUNet(PAPER.interpolation, device="meta")
    billions = [sum(p.numel() for p in model.parameters()) / 1e9 for model in (keyframe, groups)]
    assert billions == [pytest.approx(4.14, abs=0.1), pytest.approx(3.9, abs=0.15)]
    assert (PAPER.keyframe_schedule.prediction, PAPER.interpolation_schedule.prediction) == ("epsilon", "v")


def image_movq(folder: Path) -> Path:
    """Weights of a small image autoencoder of the tiny preset."""
    movq = MoVQ(dataclasses.replace(TINY.movq, decoder="image"))
    save_weights(movq.state_dict(), folder / "movq.safetensors", dtype=torch.float32)
    return folder / "movq.safetensors"


@pytest.mark.parametrize("name", [name for name in DECODERS if name != "image"])
@pytest.mark.parametrize("parts", ["temporal", "decoder"])
def test_every_decoder_of_table_3_trains(tmp_path: Path, name: str, parts: str) -> None:
    """The encoder is frozen; the chosen parts get a gradient from the loss, the others none."""
    movq = decoder_model(dataclasses.replace(TINY.movq, decoder=name), image_movq(tmp_path), parts)
    trained = {key for key, value in movq.named_parameters() if value.requires_grad}
    temporal = {key for key, _ in temporal_parameters(movq)}
    decoder = {f"decoder.{key}" for key, _ in movq.decoder.named_parameters()}
    assert trained == (temporal if parts == "temporal" else decoder)
    model = VideoDecoder(movq)
    output, _ = model(torch.rand(1, 3, 2, 16, 16) * 2 - 1, torch.zeros(1))
    output.square().mean().backward()
    assert any(value.grad is not None and value.grad.any() for value in movq.parameters())
    assert all(value.grad is None for key, value in movq.named_parameters() if key not in trained)


def test_feature_distance_is_zero_for_equals_and_grows() -> None:
    movq = MoVQ(TINY.movq).requires_grad_(False)
    pixels = torch.rand(1, 3, 2, 16, 16)
    noise = torch.randn_like(pixels)
    distances = [feature_distance(movq, pixels + share * noise, pixels).item() for share in (0.0, 0.05, 0.5)]
    assert distances[0] == 0
    assert distances[0] < distances[1] < distances[2]


def test_generator_and_judge_do_not_reach_each_other() -> None:
    """The generator's loss moves only the video, the judge's only the judge."""
    judge, made = Discriminator(8), torch.rand(1, 3, 2, 16, 16, requires_grad=True)
    generator, judged = adversarial_losses(judge, made, torch.rand(1, 3, 2, 16, 16))
    generator.backward()
    assert made.grad.abs().max() > 0
    assert all(value.grad is None for value in judge.parameters())
    made.grad = None
    judged.backward()
    assert made.grad is None
    assert all(value.grad is not None for value in judge.parameters())


@pytest.mark.parametrize("shape", NEW_SHAPES)
def test_new_shapes_are_drawn_when_asked_for_only(shape: str) -> None:
    """A ring has a hole, a hexagon none; neither is ever part of the data set."""
    rng = np.random.default_rng(0)
    scene = sample_scene(rng, None, shape=shape, motion="standing still", background="black", size="large")
    frame = render(dataclasses.replace(scene, offset=(0.0, 0.0)), np.zeros(1))[0]
    assert bool(frame[32, 32].max() < 30) == (shape == "ring")
    assert frame[32, 32 - 11 if shape == "ring" else 32].max() > 100
    assert {sample_scene(rng).shape for _ in range(200)}.isdisjoint(NEW_SHAPES)
