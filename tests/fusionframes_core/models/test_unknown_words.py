"""Prompts that a text encoder understands in part or not at all say so."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from fusionframes_core.models.tokenizer import load_tokenizer, tokenize
from training.moving_shapes.shapes_tokenizer import build_tokenizer


@pytest.fixture(scope="module")
def word_tokenizer(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    build_tokenizer().save(str(path))
    return load_tokenizer(path)


@pytest.fixture(scope="module")
def piece_tokenizer(tmp_path_factory: pytest.TempPathFactory):
    """As T5's: pieces of words, and <unk> for characters that no piece has."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    pieces = [
        "<pad>",
        "</s>",
        "<unk>",
        "▁",
        *(f"▁{word}" for word in ("a", "red", "star")),
        *"abcdefghijklmnopqrstuvwxyz",
    ]
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(pieces[:3])
    path: Path = tmp_path_factory.mktemp("pieces") / "tokenizer.json"
    tokenizer.save(str(path))
    return load_tokenizer(path)


def said(tokenizer, *prompts: str) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tokenize(tokenizer, prompts, 24)
    return [str(warning.message) for warning in caught]


def test_unknown_words_are_named_once_a_prompt(word_tokenizer) -> None:
    prompts = ("a red zebra, (Кот), zebra", "a red zebra, (Кот), zebra", "a red star")
    (text,) = said(word_tokenizer, *prompts)
    assert text == (
        "words of the prompt 'a red zebra, (Кот), zebra' mean nothing to the model, whose text encoder does not know "
        "them: 'zebra', 'Кот'"
    )
    assert len(said(word_tokenizer, "a zebra", "a quagga")) == 2


@pytest.mark.parametrize(
    "prompt", ["a red circle, moving left!", "a “red” star — moving left…", "", " ", "a (red) star"]
)
def test_punctuation_is_no_unknown_word(prompt: str, word_tokenizer) -> None:
    assert said(word_tokenizer, prompt) == []


def test_pieces_that_are_unknown_name_their_whole_word(piece_tokenizer) -> None:
    assert said(piece_tokenizer, "a red zebra") == []
    (text,) = said(piece_tokenizer, "a naïve star 一只猫 🐈")
    assert text.endswith("does not know them: 'naïve', '一只猫', '🐈'")


def test_many_unknown_words_are_named_in_few(word_tokenizer) -> None:
    assert all(len(text) < 600 for text in said(word_tokenizer, " ".join(f"zebra{i}" for i in range(500)), "x" * 5000))


@pytest.mark.parametrize("prompt", ["a red \ud800 star", "\udcff"])
def test_half_a_character_is_one_sentence_that_names_the_prompt(prompt: str, word_tokenizer) -> None:
    with pytest.raises(
        ValueError, match=r"^prompt '.*' must be text; its character \d+, .*, is half of a character$"
    ) as error:
        tokenize(word_tokenizer, ["a red star", prompt], 24)
    str(error.value).encode("utf-8")
