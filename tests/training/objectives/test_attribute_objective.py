"""The classes of captions that the text encoder learns to read."""

from __future__ import annotations

import numpy as np

from training.moving_shapes.scenes import MOTIONS, sample_scene
from training.moving_shapes.shapes_tokenizer import build_tokenizer
from training.objectives.attribute_objective import ATTRIBUTES, random_captions, spoken_attributes


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


def test_captions_carry_their_classes_and_unknown_words():
    tokenizer = build_tokenizer()
    batch = random_captions(np.random.default_rng(3), 64, held_out=False, unknown_rate=1.0)
    assert all(2 in tokenizer.encode(prompt).ids for prompt in batch["prompts"])
    for index, prompt in enumerate(batch["prompts"]):
        assert ATTRIBUTES["colour"][batch["classes"]["colour"][index]] in prompt.split()
