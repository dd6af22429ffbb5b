"""The tiny tokenizer, the classes of captions, and that the stage learns, stops and resumes."""

from __future__ import annotations

import numpy as np
import pytest

from training.moving_shapes import MOTIONS, caption, sample_scene
from training.tokenizer import build_tokenizer, vocabulary
from training.train_text_encoder import ATTRIBUTES, random_captions, spoken_attributes


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
        assert tokens[-1] == "</s>" and "<unk>" not in tokens
        assert " ".join(tokens[:-1]).replace(" ,", ",") == text
        assert len(tokens) <= 24


@pytest.mark.parametrize(
    ("prompt", "meaning"),
    [
        ("A BIG, gray ball!", "a large , grey circle"),
        ("a tiny violet box traveling leftwards fast", "a small purple square moving left quickly"),
        ("a star that is turning slowly.", "a star that spinning slowly"),
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
