"""Laws of tokenizing: what is a tokenizer, what is cut."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from fusionframes_core.models.tokenizer import load_tokenizer, tokenize
from training.moving_shapes.shapes_tokenizer import build_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    build_tokenizer().save(str(path))
    return load_tokenizer(path)


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no tokenizer at"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"is not a tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_without_t5s_special_tokens_is_refused(tmp_path: Path) -> None:
    build_tokenizer().save(str(tmp_path / "tokenizer.json"))
    text = (tmp_path / "tokenizer.json").read_text("utf-8").replace("</s>", "<end>")
    assert json.loads(text)
    (tmp_path / "tokenizer.json").write_text(text, "utf-8")
    with pytest.raises(ValueError, match="is not a T5 tokenizer: it lacks </s>"):
        load_tokenizer(tmp_path)


def test_rows_end_with_the_end_token_and_long_prompts_are_cut_with_a_warning(tokenizer: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = tokenize(tokenizer, ["a red star", "star"], max_tokens=4)
    assert [len(row) for row in rows] == [4, 2]
    assert {row[-1] for row in rows} == {tokenizer.eos_token_id}
    with pytest.warns(UserWarning, match=r"4 tokens, the text encoder takes 3; its last 1 word\(s\) were cut: 'star'"):
        (cut,) = tokenize(tokenizer, ["a red star"], max_tokens=3)
    assert cut == [*rows[0][:2], tokenizer.eos_token_id]


@pytest.mark.parametrize("prompts", ["a red circle", [], [3]])
def test_prompts_must_be_a_list_of_strings(tokenizer: Any, prompts: Any) -> None:
    with pytest.raises(TypeError, match="list of at least one string"):
        tokenize(tokenizer, prompts, max_tokens=4)
