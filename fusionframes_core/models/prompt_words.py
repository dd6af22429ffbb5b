"""What a text encoder cannot take of a prompt: words that its tokenizer does not know, and halves of characters."""

from __future__ import annotations

import re
import string
import unicodedata
import warnings
from collections.abc import Sequence

QUOTED_CHARACTERS = 160


def check_characters(prompt: str) -> None:
    """Raise ValueError for half of a character, which tokenizers refuse without saying what is wrong."""
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        half = ascii(prompt[error.start])[1:-1]
        raise ValueError(
            f"prompt {quoted(prompt)} must be text; its character {error.start + 1}, {half}, is half of a character"
        ) from error


def warn_unknown(prompt: str, places: Sequence[tuple[int, int]]) -> None:
    """Warn of the words at these places (first character, end) of a prompt; punctuation is no word."""
    words = [match for match in re.finditer(r"\w+|[^\w\s]", prompt) if not _is_punctuation(match.group())]
    unknown = [word[0] for word in words if any(word.start() < end and start < word.end() for start, end in places)]
    if unknown:
        warnings.warn(
            f"words of the prompt {quoted(prompt)} mean nothing to the model, whose text encoder does not know them: "
            f"{_shortened(', '.join(map(repr, dict.fromkeys(unknown))))}",
            stacklevel=4,
        )


def _is_punctuation(text: str) -> bool:
    return text in string.punctuation or unicodedata.category(text[0]).startswith("P")


def quoted(text: str) -> str:
    """A text in quotes for a sentence, cut where it is long."""
    return repr(_shortened(text))


def _shortened(text: str) -> str:
    text = " ".join(text.split()) or text
    return text if len(text) <= QUOTED_CHARACTERS else text[:QUOTED_CHARACTERS].rsplit(" ", 1)[0] + " …"
