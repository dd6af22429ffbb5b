"""The tiny tokenizer, the classes of captions, and that the stage learns the same when it is stopped and resumed."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fusionframes_core.checkpoints.open_model import load_weights
from fusionframes_core.models.text_encoder import TextEncoder
from fusionframes_core.models.tokenizer import load_tokenizer
from fusionframes_core.presets import PRESETS
from training.engine.run_settings import TrainSettings
from training.moving_shapes.scenes import MOTIONS, caption, sample_scene
from training.moving_shapes.shapes_tokenizer import build_tokenizer, vocabulary
from training.train_text_encoder import ATTRIBUTES, random_captions, spoken_attributes, train


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_special_tokens_are_those_of_t5(tokenizer):
    assert [tokenizer.id_to_token(index) for index in range(3)] == ["<pad>", "</s>", "<unk>"]
    assert tokenizer.encode("").ids == [1]
    assert len(set(vocabulary())) == len(vocabulary()) == tokenizer.get_vocab_size() - 3


def test_every_caption_is_known_and_left_as_it_is(tokenizer):
    rng = np.random.default_rng(0)
    for _ in range(1000):
        text = caption(sample_scene(rng, held_out=None), rng)
        tokens = tokenizer.encode(text).tokens
        assert tokens[-1] == "</s>"
        assert "<unk>" not in tokens
        assert " ".join(tokens[:-1]).replace(" ,", ",") == text
        assert len(tokens) <= 24


@pytest.mark.parametrize(
    ("prompt", "meaning"),
    [
        ("A BIG, gray ball!", "a large , grey circle"),
        ("a tiny violet box traveling leftwards fast", "a small purple square moving left quickly"),
        ("a star that is turning slowly.", "a star spinning slowly"),
        ("an orange disk, bouncing vertically", "an orange circle , bouncing up and down"),
        ("a motionless white star in front of a dark backdrop", "a standing still white star on a black background"),
    ],
)
def test_synonyms_mean_the_captions_own_words(tokenizer, prompt, meaning):
    assert tokenizer.encode(prompt).ids == tokenizer.encode(meaning).ids
    assert 2 not in tokenizer.encode(prompt).ids


def test_parts_of_words_are_left_alone(tokenizer):
    assert tokenizer.encode("bigger slowly upwards circles").tokens[:-1] == ["bigger", "slowly", "upwards", "circles"]
    assert tokenizer.encode("island").tokens[:-1] == ["<unk>"]


def test_unsaid_attributes_have_a_class_of_their_own():
    scene = sample_scene(
        np.random.default_rng(0),
        held_out=None,
        shape="star",
        colour="white",
        size="small",
        motion="shrinking",
        speed="quickly",
        background="black",
    )
    said = spoken_attributes(scene, "a small white star, shrinking quickly on a black background")
    assert said == {
        "shape": 3,
        "colour": 7,
        "size": 0,
        "motion": list(MOTIONS).index("shrinking"),
        "speed": 1,
        "background": 0,
    }
    unsaid = spoken_attributes(scene, "white star gets smaller")
    assert (unsaid["size"], unsaid["speed"], unsaid["background"]) == (2, 2, 3)


def test_captions_carry_their_classes_and_unknown_words(tokenizer):
    batch = random_captions(np.random.default_rng(3), 64, held_out=False, unknown_rate=1.0)
    assert all(2 in tokenizer.encode(prompt).ids for prompt in batch["prompts"])
    for index, prompt in enumerate(batch["prompts"]):
        assert ATTRIBUTES["colour"][batch["classes"]["colour"][index]] in prompt.split()


@pytest.fixture
def _signals():
    """Put the handlers back that a run replaces."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _settings(output, steps):
    return TrainSettings(
        output, steps, batch_size=8, learning_rate=2e-3, warmup_steps=1, decay_steps=1, log_every=1, checkpoint_every=2
    )


@pytest.mark.usefixtures("_signals")
def test_a_resumed_run_equals_an_unbroken_one(tmp_path):
    train(_settings(tmp_path / "whole", 4), validation_captions=8)
    train(_settings(tmp_path / "broken", 2), validation_captions=8)
    early = load_file(tmp_path / "broken" / "text_encoder.safetensors")
    train(_settings(tmp_path / "broken", 4), validation_captions=8)
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
