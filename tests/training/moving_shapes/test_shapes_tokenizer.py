"""The tiny tokenizer: every caption is known, synonyms mean the captions' own words."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fusionframes_core.checkpoints.open_model import model_folder
from training.moving_shapes.scenes import MOTIONS, UNNAMED, caption, sample_scene
from training.moving_shapes.shapes_tokenizer import SYNONYMS, build_tokenizer, vocabulary


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_special_tokens_are_those_of_t5(tokenizer):
    assert [tokenizer.id_to_token(index) for index in range(3)] == ["<pad>", "</s>", "<unk>"]
    assert tokenizer.encode("").ids == [1]
    assert len(set(vocabulary())) == len(vocabulary()) == tokenizer.get_vocab_size() - 3


def test_every_caption_is_known_and_left_as_it_is(tokenizer):
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng, held_out=None) for _ in range(1000)]
    scenes += [sample_scene(rng, motion=name) for name in UNNAMED for _ in range(50)]
    for scene in scenes:
        text = caption(scene, rng)
        tokens = tokenizer.encode(text).tokens
        assert tokens[-1] == "</s>"
        assert "<unk>" not in tokens
        assert " ".join(tokens[:-1]).replace(" ,", ",") == text
        assert len(tokens) <= 24


def test_words_keep_their_places(tokenizer):
    """A trained text encoder knows them by these numbers: the first word, those of a motion, the last ones."""
    places = {"a": 3, "red": 10, "circle": 18, "spins": 45, "in": 70, "tilted": 71}
    assert {word: tokenizer.token_to_id(word) for word in places} == places
    assert tokenizer.get_vocab_size() == 72


def test_the_bundled_model_has_this_tokenizer(tokenizer):
    assert json.loads((model_folder("tiny") / "tokenizer.json").read_text("utf-8")) == json.loads(tokenizer.to_str())


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


def test_a_motion_with_synonyms_has_them_as_verb_and_as_gerund():
    pairs = {(verb.split()[0], gerund.split()[0]) for forms in MOTIONS.values() for verb, gerund in forms}
    first_words = {wording.split()[0] for wording in SYNONYMS if wording}
    one_sided = {pair for pair in pairs if len(first_words & set(pair)) == 1}
    assert not one_sided


@pytest.mark.parametrize("prompt", ["a cyan circle that orbits", "a cyan circle which orbits in a circle"])
def test_orbits_is_a_circle_as_orbiting_is(tokenizer, prompt):
    assert tokenizer.encode(prompt).ids == tokenizer.encode("a cyan circle that circles").ids
