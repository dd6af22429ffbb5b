"""What a LoRA is refused to be trained on, before any weights load, and what its file says of its training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fusionframes_core.checkpoints.component import StoredModel
from fusionframes_core.checkpoints.open_model import open_model
from fusionframes_core.presets import KANDINSKY_VIDEO_1_1
from tests.helpers.video_clips import moving, write
from training import prepare, train_lora
from training.accounting import fitting
from training.data.encoder_identity import component_identity, weights_fingerprint
from training.data.prepared_clips import PreparedClips
from training.engine.run_settings import TrainSettings
from training.objectives.lora_samples import text_for
from training.objectives.lora_start import base_metadata, check_data, check_part, open_init
from training.train_lora import LoraStage


@pytest.fixture(scope="module")
def model() -> StoredModel:
    """The bundled model."""
    return open_model("tiny")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two prepared clips of two shapes."""
    folder = tmp_path_factory.mktemp("lora_data")
    (folder / "videos").mkdir()
    for name, size in (("wide", (32, 64)), ("high", (64, 32))):
        write(folder / "videos" / f"{name}.mp4", moving(20, size))
        (folder / "videos" / f"{name}.txt").write_text(f"a {name} ring")
    arguments = ["folder", str(folder / "videos"), "--out", str(folder / "data"), "--min-frames", "17"]
    assert prepare.main([*arguments, "--threshold", "0", "--buckets", "32x64", "64x32"]) == 0
    return folder / "data"


def test_a_fingerprint_is_the_files(tmp_path: Path) -> None:
    """Wherever it lies; another number anywhere that is read is another one."""
    content = bytes(range(256)) * 4096
    first, second, third = (tmp_path / name for name in ("a", "b", "c"))
    first.write_bytes(content)
    second.write_bytes(content)
    third.write_bytes(content[:-1] + b"x")
    assert weights_fingerprint(first) == weights_fingerprint(second)
    assert weights_fingerprint(first) != weights_fingerprint(third)


def test_data_of_another_model_is_refused(model: StoredModel, data: Path) -> None:
    """Texts of another width, latents of another size, another autoencoder."""
    clips = PreparedClips([data])
    check_data([data], clips, model, "keyframe")
    wide = replace(model.config, keyframe=replace(model.config.keyframe, context_dim=64))
    with pytest.raises(ValueError, match=r"data must have texts of 64 numbers a token.* has 128: prepare it with"):
        check_data([data], clips, replace(model, config=wide), "keyframe")
    deep = replace(model.config, keyframe=replace(model.config.keyframe, channel_mult=(1, 2, 2, 4)))
    with pytest.raises(ValueError, match=r"multiples of 8 for tiny \(of 64 pixels\); .* has 4x4x8"):
        check_data([data], clips, replace(model, config=deep), "keyframe")
    report = json.loads((data / "report.json").read_text())
    assert report["movq"] == component_identity(model.components["movq"])
    try:
        changed = {**report, "movq": {"file": "other.safetensors", "fingerprint": "0" * 16}}
        (data / "report.json").write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=r"was encoded by another one, other.safetensors \(0000000000000000\)"):
            check_data([data], PreparedClips([data]), model, "keyframe")
    finally:
        (data / "report.json").write_text(json.dumps(report))


def test_a_unet_of_other_inputs_is_refused() -> None:
    """1.1's are noisy latents and a first frame's channels; others are named."""
    for part in ("keyframe", "interpolation"):
        check_part(KANDINSKY_VIDEO_1_1, part)
    for inputs, words in (
        ({"image_input": False}, "of 4 input channels, noisy latents alone; kandinsky-video-1.1's has 9"),
        ({"in_channels": 8}, "of 9 input channels, noisy latents, and those of a first frame; .*'s has 8"),
    ):
        other = replace(KANDINSKY_VIDEO_1_1, keyframe=replace(KANDINSKY_VIDEO_1_1.keyframe, **inputs))
        check_part(other, "interpolation")
        with pytest.raises(ValueError, match=words):
            check_part(other, "keyframe")


def adapters(path: Path, metadata: dict[str, str]) -> Path:
    """A LoRA file with one adapter of the bundled keyframe U-Net."""
    name = "diffusion_model.down_samples.0.self_attention_block.attention.to_query"
    tensors = {f"{name}.lora_A.weight": torch.zeros(2, 64), f"{name}.lora_B.weight": torch.zeros(64, 2)}
    save_file(tensors, path, metadata)
    return path


def test_a_lora_of_another_base_is_not_gone_on_from(tmp_path: Path, model: StoredModel) -> None:
    """Other temporal blocks, another version of the file, another U-Net, another rank: named."""
    own = base_metadata(model, "keyframe") | {"rank": "2"}
    assert own["temporal"] == "conv1d_attn1d_blocks"
    open_init(adapters(tmp_path / "own.safetensors", own), model, "keyframe", 2)
    cases = {
        "temporal": ("conv3d_attn1d_blocks", "other temporal blocks, conv3d_attn1d_blocks; the model has conv1d"),
        "base_fingerprint": ("0123", "another version of the base, 0123; the model's file is"),
        "fusionframes": ("lora interpolation", "is a lora interpolation, this trains a lora keyframe"),
        "rank": ("4", "rank must be init's, 4; got 2"),
    }
    for name, (value, words) in cases.items():
        path = adapters(tmp_path / f"{name}.safetensors", own | {name: value})
        with pytest.raises(ValueError, match=words):
            open_init(path, model, "keyframe", 2)


def test_a_stored_caption_needs_no_text_encoder(model: StoredModel, data: Path) -> None:
    source = train_lora.PreparedSource([data], 1)
    without = replace(model, components={k: v for k, v in model.components.items() if k != "text_encoder"})
    stored = text_for(without, source, "a high ring")
    encoded = text_for(model, source, None)
    assert stored.context.shape == encoded.context.shape
    with pytest.raises(ValueError, match=r"sample_prompt must be a caption of data .* got 'a cat'"):
        text_for(without, source, "a cat")


def stage(tmp_path: Path, data: Path, **changes: object) -> LoraStage:
    """A short run on the prepared clips."""
    settings = TrainSettings(
        tmp_path / "run", 2, 2, 1e-3, warmup_steps=1, decay_steps=1, trackers=[], activation_checkpointing=True
    )
    options = {"data": [data], "keyframe_step": 1, "rank": 2, "layers": "attention", **changes}
    return LoraStage(settings, **options)  # type: ignore[arg-type]


def test_what_cannot_fit_is_said_before_weights_load(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a card with less memory than the base takes, with nothing written."""
    monkeypatch.setattr(fitting, "available_bytes", lambda device: 10**6)
    monkeypatch.setattr(train_lora, "load_base", lambda *_: pytest.fail("weights were loaded"))
    monkeypatch.setattr(fitting, "total", lambda plan, setting, cards: 2e9)
    with pytest.raises(ValueError, match=r"LoRA of the keyframe U-Net cannot fit: it takes about 2.0 GB on each card"):
        stage(tmp_path, data).run()
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_over_two_sizes_says_what_it_was_trained_on(tmp_path: Path, data: Path, model: StoredModel) -> None:
    """Two steps with alpha and dropout, a sample of each; the file names base, temporal blocks and sizes."""
    run = stage(tmp_path, data, alpha=4.0, dropout=0.1, sample_prompt="a wide ring")
    replace(run, train=replace(run.train, sample_every=2)).run()
    assert [path.name for path in (tmp_path / "run" / "samples").iterdir()] == ["00000002.mp4"]
    with safe_open(str(tmp_path / "run" / "lora.safetensors"), framework="pt") as file:
        said = file.metadata()
    wanted = base_metadata(model, "keyframe") | {"rank": "2", "alpha": "4.0", "sizes": "32x64, 64x32", "frames": "16"}
    assert wanted.items() <= said.items()
