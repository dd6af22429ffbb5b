"""Prompts to token ids: T5-style tokenizers from tokenizer.json, with warnings of what is cut and of unknown words.

transformers is imported only when a tokenizer is loaded, so that importing this module is cheap.
"""

from __future__ import annotations

import typing
import warnings
from collections.abc import Sequence
from pathlib import Path

from .prompt_words import check_characters, quoted, warn_unknown

if typing.TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


def tokenize(tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Token ids of each prompt, the end token included, at most `max_tokens`; warns of unknown words and what is cut.

    Raises TypeError for anything but strings, and ValueError that names the prompt for text that is none.
    """
    if isinstance(prompts, str) or not prompts or not all(isinstance(prompt, str) for prompt in prompts):
        raise TypeError(f"prompts must be a list of at least one string; got {prompts!r}")
    for prompt in prompts:
        check_characters(prompt)
    encoded = tokenizer(list(prompts), return_offsets_mapping=True, verbose=False)
    rows, unknown = [], {}
    for prompt, ids, offsets in zip(prompts, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        if len(ids) > max_tokens:
            _warn_cut(prompt[offsets[max_tokens - 2][1] :].strip(), len(ids), max_tokens)
            ids = [*ids[: max_tokens - 1], tokenizer.eos_token_id]
        rows.append(ids)
        unknown[prompt] = [place for token, place in zip(ids, offsets) if token == tokenizer.unk_token_id]
    for prompt, places in unknown.items():
        warn_unknown(prompt, places)
    return rows


def load_tokenizer(folder_or_file: str | Path) -> PreTrainedTokenizerFast:
    """Load a T5-style fast tokenizer from a `tokenizer.json` or the folder that holds one.

    Raises FileNotFoundError when there is none, and ValueError when it is no tokenizer or lacks <pad>, </s> or <unk>.
    """
    path = Path(folder_or_file)
    path = path / "tokenizer.json" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"no tokenizer at {path}: it must be a tokenizer.json or a folder that holds one")
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise ValueError(f"{path} is not a tokenizer.json of the tokenizers library: {error}") from error
    missing = [token for token in SPECIAL_TOKENS.values() if tokenizer.token_to_id(token) is None]
    if missing:
        raise ValueError(f"{path} is not a T5 tokenizer: it lacks {', '.join(missing)}")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS)


def _warn_cut(text: str, num_tokens: int, limit: int) -> None:
    warnings.warn(
        f"the prompt has {num_tokens} tokens, the text encoder takes {limit}; "
        f"its last {len(text.split())} word(s) were cut: {quoted(text)}",
        stacklevel=4,
    )
