"""The text encoder's stage learns the same when it is stopped and resumed."""

from __future__ import annotations

import dataclasses
import json

import torch
from safetensors.torch import load_file

from fusionframes_core.checkpoints.open_model import load_weights
from fusionframes_core.models.text_encoder import TextEncoder
from fusionframes_core.models.tokenizer import load_tokenizer
from fusionframes_core.presets import PRESETS
from training.engine.run_settings import TrainSettings
from training.train_text_encoder import TextEncoderStage


def _settings(output, steps):
    return TrainSettings(
        output, steps, batch_size=8, learning_rate=2e-3, warmup_steps=1, decay_steps=1, log_every=1, checkpoint_every=2
    )


def test_a_resumed_run_equals_an_unbroken_one(tmp_path):
    TextEncoderStage(_settings(tmp_path / "whole", 4), validation_captions=8).run()
    TextEncoderStage(_settings(tmp_path / "broken", 2), validation_captions=8).run()
    early = load_file(tmp_path / "broken" / "text_encoder.safetensors")
    TextEncoderStage(_settings(tmp_path / "broken", 4), validation_captions=8).run()
    whole, broken = (load_file(tmp_path / name / "text_encoder.safetensors") for name in ("whole", "broken"))
    assert whole.keys() == broken.keys() == early.keys()
    for key, tensor in whole.items():
        torch.testing.assert_close(broken[key], tensor, msg=key)
    assert not torch.equal(early["projection.weight"], whole["projection.weight"])
    assert torch.equal(early["null_embedding"], whole["null_embedding"])  # left for the U-Nets
    entries = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert entries[-1]["loss"] < entries[0]["loss"]
    encoder = TextEncoder(PRESETS["tiny"].text, load_tokenizer(tmp_path / "whole"))
    load_weights(encoder, tmp_path / "whole" / "text_encoder.safetensors")
    assert encoder.encode(["a red star"]).mask.sum() == 4


def test_other_wordings_are_learned_and_contexts_of_captions_stay(tmp_path):
    """What the U-Nets were trained on may move by a few per cent; the null embedding, which is theirs, not at all."""
    before = tmp_path / "before"
    TextEncoderStage(_settings(before, 1), validation_captions=8).run()
    settings = dataclasses.replace(_settings(tmp_path / "after", 40), batch_size=32, checkpoint_every=40, ema_decay=0.9)
    TextEncoderStage(settings, init=before, validation_captions=40).run()
    entries = [json.loads(line) for line in (tmp_path / "after" / "log.jsonl").read_text().splitlines()]
    first, last = entries[0], entries[-1]
    assert last["loss"] < 0.8 * first["loss"]
    assert 0 < last["captions"] < 0.1
    assert {"val_shape", "val_colour", "val_motion", "val_speed", "val_size"} <= last.keys()
    nulls = [load_file(tmp_path / name / "text_encoder.safetensors")["null_embedding"] for name in ("before", "after")]
    assert torch.equal(*nulls)
