"""Sentences about Moving Shapes that are none of its captions: other word orders, everyday words, sentences.

Two sets of wordings, of which one teaches the text encoder and the other, `HELD_OUT`, measures it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from .prompts_file import Prompt, held_out_prompts
from .scenes import Scene, background_words, sample_scene

Choice = TypeVar("Choice")
Forms = tuple[tuple[str, str], ...]  # (verb form, gerund), as in `scenes.MOTIONS`


@dataclass(frozen=True)
class Wordings:
    """What sentences are made of.

    In `sentences`, {noun} is "small red star" with or without its size, {plain} the shape alone, {look} its size and
    colour as a phrase of their own, {verb} and {gerund} the motion with the speed, where said, behind or before it.
    """

    sentences: tuple[str, ...]
    looks: tuple[str, ...]
    motions: dict[str, Forms]
    speeds: dict[str, tuple[str, ...]]
    sizes: dict[str, tuple[str, ...]]
    shapes: dict[str, tuple[str, ...]]
    places: tuple[str, ...]


TAUGHT = Wordings(
    sentences=(
        "{gerund}, a {noun}",
        "a {noun} and it {verb}",
        "the {noun} {verb}",
        "here {verb} a {noun}",
        "a {plain} of {look} {gerund}",
        "a {plain} {look} {verb}",
        "a {plain}, {look}, {gerund}",
        "{look}, a {plain}, {verb}",
        "one {noun} and how it {verb}",
        "it {verb}, the {noun}",
        "{gerund} {noun}",
    ),
    looks=("{colour}, {size}", "{size} and {colour}", "{colour} and {size}", "{size} {colour}", "{colour}"),
    motions={
        "moving left": (("slides left", "sliding left"), ("runs to the left", "running to the left")),
        "moving right": (("slides right", "sliding right"), ("runs to the right", "running to the right")),
        "moving up": (("goes up", "going up"), ("climbs", "climbing"), ("floats upwards", "floating upwards")),
        "moving down": (("goes down", "going down"), ("drops", "dropping"), ("sinks down", "sinking down")),
        "spinning": (("turns", "turning"), ("rotates in place", "rotating in place"), ("twirls", "twirling")),
        "growing": (("becomes bigger", "becoming bigger"), ("gets larger and larger", "getting larger and larger")),
        "shrinking": (("becomes smaller", "becoming smaller"), ("gets tiny", "getting tiny")),
        "standing still": (("rests", "resting"), ("stays in place", "staying in place"), ("stays", "staying")),
        "bouncing left and right": (
            ("swings left and right", "swinging left and right"),
            ("goes left and right and left", "going left and right and left"),
            ("bounces sideways", "bouncing sideways"),
        ),
        "bouncing up and down": (
            ("goes up and down", "going up and down"),
            ("jumps up and down", "jumping up and down"),
        ),
        "circling": (("goes in a circle", "going in a circle"), ("moves in circles", "moving in circles")),
    },
    speeds={"slowly": ("slowly", "slow"), "quickly": ("quickly", "fast")},
    sizes={"small": ("small", "little"), "large": ("large", "big")},
    shapes={"circle": ("circle", "ball"), "square": ("square",), "triangle": ("triangle",), "star": ("star",)},
    places=("on {background}", "and {background}", "{background}"),
)

HELD_OUT = Wordings(
    sentences=(
        "a {plain}, {look}, {verb}",
        "there is a {noun}. it {verb}",
        "we see how a {noun} {verb}",
        "{gerund}: a {noun}",
        "a {noun}: it is {gerund}",
        "this {noun} is {gerund}",
        "a {plain} which is {look} and {verb}",
        "my {look} {plain}, always {gerund}",
    ),
    looks=("{size} and {colour}", "{colour}, {size}", "{colour}"),
    motions={
        "moving left": (("drifts to the left", "drifting to the left"), ("travels leftwards", "travelling leftwards")),
        "moving right": (
            ("drifts to the right", "drifting to the right"),
            ("travels rightwards", "travelling rightwards"),
        ),
        "moving up": (("ascends", "ascending"), ("drifts upward", "drifting upward")),
        "moving down": (("descends", "descending"), ("drifts downward", "drifting downward")),
        "spinning": (
            ("revolves", "revolving"),
            ("whirls around", "whirling around"),
            ("turns around", "turning around"),
        ),
        "growing": (("expands", "expanding"), ("becomes larger", "becoming larger")),
        "shrinking": (("contracts", "contracting"), ("gets tinier", "getting tinier")),
        "standing still": (("stays still", "staying still"), ("is motionless", "holding still")),
        "bouncing left and right": (
            ("swings from side to side", "swinging from side to side"),
            ("jumps right and left", "jumping right and left"),
        ),
        "bouncing up and down": (
            ("hops up and down", "hopping up and down"),
            ("jumps vertically", "jumping vertically"),
        ),
        "circling": (("orbits in a circle", "orbiting"), ("runs in a circle", "going around in a circle")),
    },
    speeds={"slowly": ("slowly", "gently"), "quickly": ("quickly", "rapidly")},
    sizes={"small": ("small", "tiny"), "large": ("large", "huge")},
    shapes={"circle": ("circle", "disc"), "square": ("square", "box"), "triangle": ("triangle",), "star": ("star",)},
    places=("before {background}", "in front of {background}"),
)


@dataclass(frozen=True)
class Paraphrase:
    """A sentence, what it asks for, and a caption of training's wording that says the same."""

    prompt: Prompt
    background: str | None
    caption: str


def paraphrase(scene: Scene, rng: np.random.Generator, wordings: Wordings) -> Paraphrase:
    """A random sentence about a scene; size, speed and background are not always said."""
    size = scene.size if rng.random() < 0.7 else None
    speed = scene.speed if rng.random() < 0.5 and scene.motion != "standing still" else None
    background = scene.background if rng.random() < 0.4 else None
    text = _sentence(scene, size, speed, rng, wordings)
    if background is not None:
        where = _choose(rng, wordings.places).format(background=background_words(background))
        text = f"{where}, {text}" if rng.random() < 0.5 else f"{text}, {where}"
    prompt = Prompt(_tidy(text), scene.shape, scene.colour, scene.motion, speed, size)
    return Paraphrase(prompt, background, plain_caption(prompt, background))


def _sentence(scene: Scene, size: str | None, speed: str | None, rng: np.random.Generator, wordings: Wordings) -> str:
    size_word = _choose(rng, wordings.sizes[size]) if size else ""
    look = _choose(rng, [look for look in wordings.looks if (size is not None) == ("{size}" in look)])
    shape = _choose(rng, wordings.shapes[scene.shape])
    verb, gerund = _choose(rng, wordings.motions[scene.motion])
    if speed:
        order = "{1} {0}" if rng.random() < 0.5 else "{0} {1}"
        adverb = _choose(rng, wordings.speeds[speed])
        verb, gerund = order.format(verb, adverb), order.format(gerund, adverb)
    return _choose(rng, wordings.sentences).format(
        noun=f"{size_word} {scene.colour} {shape}",
        plain=shape,
        look=look.format(size=size_word, colour=scene.colour),
        verb=verb,
        gerund=gerund,
    )


def plain_caption(prompt: Prompt, background: str | None) -> str:
    """A caption in training's plainest wording that names what the prompt names."""
    words = ("a", prompt.size, prompt.colour, prompt.shape, prompt.motion, prompt.speed)
    text = " ".join(word for word in words if word)
    return _tidy(f"{text} on {background_words(background)}" if background else text)


def _tidy(text: str) -> str:
    return " ".join(text.split()).replace("a orange", "an orange")


def _choose(rng: np.random.Generator, choices: Sequence[Choice]) -> Choice:
    return choices[int(rng.integers(len(choices)))]


def random_paraphrases(rng: np.random.Generator, count: int, held_out: bool, wordings: Wordings) -> list[Paraphrase]:
    """`count` sentences about random scenes, of combinations that training sees or that it does not."""
    return [paraphrase(sample_scene(rng, held_out), rng, wordings) for _ in range(count)]


def make_paraphrases(count: int = 200, seed: int = 0) -> list[Prompt]:
    """`count` different sentences of the held-out wordings about held-out combinations, each equally often."""
    return held_out_prompts(lambda scene, rng: paraphrase(scene, rng, HELD_OUT).prompt, count, seed)
