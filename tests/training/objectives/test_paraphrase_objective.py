"""Sentences of other wordings are taught by the contexts of the captions that say the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusionframes_core.checkpoints.open_model import BUNDLED
from fusionframes_core.presets import TINY
from training.objectives.initial_weights import load_text_encoder
from training.objectives.paraphrase_objective import ContextReader, ParaphraseObjective, ParaphraseValidation

pytestmark = pytest.mark.filterwarnings("ignore:words of the prompt")


@pytest.fixture(scope="module")
def teacher():
    """The bundled text encoder."""
    return load_text_encoder(BUNDLED["tiny"], TINY.text)


def test_what_says_the_same_in_the_same_words_costs_nothing(teacher):
    model, prompts = ContextReader(teacher), ["a red star spinning", "a large blue circle moving left slowly"]
    loss, figures = ParaphraseObjective(teacher, 2).loss(model, {"prompts": prompts, "wanted": prompts})
    assert loss.item() == pytest.approx(0, abs=1e-10)
    other, _ = ParaphraseObjective(teacher, 2).loss(model, {"prompts": prompts, "wanted": prompts[::-1]})
    assert other.item() > 0.1
    assert set(figures) == {"words", "means"}


def test_half_of_a_batch_are_captions_that_are_their_own_target(teacher):
    batch = ParaphraseObjective(teacher, 10).make_batch(np.random.default_rng(0))
    assert batch["prompts"][:5] == batch["wanted"][:5]
    assert all(prompt != caption for prompt, caption in zip(batch["prompts"][5:], batch["wanted"][5:], strict=True))


def test_words_are_compared_with_the_same_words(teacher):
    objective = ParaphraseObjective(teacher, 2)
    prompts, wanted = ["moving left: a star, red"], ["a red star moving left"]
    rows, here, there = objective._common_words(prompts, wanted)
    tokens, captions = teacher.tokenize(prompts)[0], teacher.tokenize(wanted)[0]
    assert [tokens[place] for place in here] == [captions[place] for place in there]
    assert len(rows) == len(captions)  # every word of the caption, and the end


def test_the_validation_reads_captions_right_and_a_broken_encoder_wrong(teacher):
    good = ParaphraseValidation(teacher, 30)(ContextReader(teacher))
    assert good["captions"] == 0
    assert min(value for name, value in good.items() if name != "captions") >= 0.9
    torch.manual_seed(0)
    broken = load_text_encoder(BUNDLED["tiny"], TINY.text)
    broken.projection.weight.data.normal_()
    bad = ParaphraseValidation(teacher, 30)(ContextReader(broken))
    assert bad["captions"] > 0.1
    assert bad["val_motion"] < 0.7
