"""Sentences of other wordings: what they say is known, none is a caption, and those that measure are never taught."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training import evaluate
from training.moving_shapes.paraphrases import HELD_OUT, TAUGHT, make_paraphrases, random_paraphrases
from training.moving_shapes.prompts_file import parse_prompt, read_prompts
from training.moving_shapes.scenes import MOTIONS, caption, is_held_out, sample_scene

PROMPTS = Path(__file__).parents[3] / "training" / "prompts" / "paraphrases_200.jsonl"


def test_the_file_is_what_the_command_writes():
    assert read_prompts(PROMPTS) == make_paraphrases(200)


def test_the_command_writes_them_to_a_file_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "PROMPTS", tmp_path / "captions.jsonl")
    monkeypatch.setattr(evaluate, "PARAPHRASES", tmp_path / "paraphrases.jsonl")
    assert evaluate.main(["make-prompts", "--paraphrases"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["paraphrases.jsonl"]
    assert (tmp_path / "paraphrases.jsonl").read_bytes() == PROMPTS.read_bytes()


def test_they_are_of_combinations_that_training_never_sees():
    prompts = read_prompts(PROMPTS)
    assert len({prompt.prompt for prompt in prompts}) == 200
    assert all(is_held_out(prompt.colour, prompt.shape, prompt.motion) for prompt in prompts)
    assert {prompt.motion for prompt in prompts} == set(MOTIONS)


def test_none_is_a_caption_or_a_sentence_that_is_taught():
    rng = np.random.default_rng(5)
    captions = {caption(sample_scene(rng, None), rng) for _ in range(4_000)}
    taught = {pair.prompt.prompt for pair in random_paraphrases(rng, 4_000, True, TAUGHT)}
    prompts = {prompt.prompt for prompt in read_prompts(PROMPTS)}
    assert not prompts & (captions | taught)


@pytest.mark.parametrize("field", ["sentences", "motions"])
def test_the_wordings_that_measure_are_none_of_those_that_are_taught(field):
    def wordings(of) -> set[str]:
        found = getattr(of, field)
        return (
            set(found)
            if field == "sentences"
            else {form for forms in found.values() for pair in forms for form in pair}
        )

    assert not wordings(TAUGHT) & wordings(HELD_OUT)
    known = {form for forms in MOTIONS.values() for pair in forms for form in pair}
    assert field == "sentences" or not (known & wordings(HELD_OUT))


@pytest.mark.parametrize("wordings", [TAUGHT, HELD_OUT])
def test_the_plain_caption_names_what_the_sentence_names(wordings):
    for item in random_paraphrases(np.random.default_rng(0), 500, False, wordings):
        plain = parse_prompt(item.caption)
        said = item.prompt
        assert (plain.shape, plain.colour, plain.motion) == (said.shape, said.colour, said.motion), item
        assert (plain.speed, plain.size) == (said.speed, said.size), item
        assert ("background" in item.caption) == ("background" in said.prompt) == (item.background is not None)
        assert said.colour in said.prompt
        assert "  " not in said.prompt
        assert "a orange" not in said.prompt
