"""Prompts with what they ask for: read from JSONL or text, and drawn from the held-out combinations.

In JSONL every line is `{"prompt": ..., "shape": ..., "colour": ..., "motion": ..., "speed": ..., "size": ...}`; what is
missing is not measured. In a text file every line is a prompt, and its words say what is measured.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.text_files import UnreadableText, lines_of, lone_surrogate, parse_json, read_text
from ..engine.command_line import BadInput
from .scenes import COLOURS, MOTIONS, SHAPES, SIZES, SPEEDS, Scene, caption, is_held_out, is_visible, sample_scene

VOCABULARY: dict[str, tuple[str, ...]] = {
    "shape": SHAPES,
    "colour": tuple(COLOURS),
    "motion": tuple(MOTIONS),
    "speed": SPEEDS,
    "size": tuple(SIZES),
}
ATTRIBUTES = tuple(VOCABULARY)
TRIES = 2000  # of a new wording, before none is left


@dataclass(frozen=True)
class Prompt:
    """A prompt and what its video must show; None is not asked for."""

    prompt: str
    shape: str | None = None
    colour: str | None = None
    motion: str | None = None
    speed: str | None = None
    size: str | None = None


def parse_prompt(text: str) -> Prompt:
    """What the words of a prompt ask for. Raises BadInput when none of them names an attribute."""
    words = " ".join(re.findall(r"[a-z]+", text.lower()))
    speed = _first(SPEEDS, words)
    for adverb in SPEEDS:
        words = " ".join(words.replace(adverb, " ").split())
    motion, words = _take_motion(words)
    # A background's colour is not the shape's, and "circle" in "moving in a circle" is no shape: both are gone by now.
    words = re.sub(r"\bon an? .*\bbackground\b", "", words)
    prompt = Prompt(
        text, _first(SHAPES, words), _first(tuple(COLOURS), words), motion, speed, _first(tuple(SIZES), words)
    )
    if not any(getattr(prompt, name) for name in ATTRIBUTES):
        raise BadInput(f"a prompt must name a shape, a colour or a motion; got {text!r}")
    return prompt


def _first(names: tuple[str, ...], words: str) -> str | None:
    """The name that comes first in `words`."""
    places = {name: match.start() for name in names if (match := re.search(rf"\b{name}\b", words))}
    return min(places, key=lambda name: places[name]) if places else None


def _take_motion(words: str) -> tuple[str | None, str]:
    """The motion whose longest wording occurs, and the words without it."""
    wordings = [(form, name) for name, forms in MOTIONS.items() for pair in forms for form in pair]
    for form, name in sorted(wordings, key=lambda item: -len(item[0])):
        match = re.search(rf"\b{form}\b", words)
        if match:
            return name, f"{words[: match.start()]} {words[match.end() :]}"
    return None, words


def read_prompts(path: Path, limit: int | None = None) -> list[Prompt]:
    """The first `limit` prompts of a JSONL or a text file. Raises BadInput that names the line that is wrong."""
    lines = lines_of(_read(path))
    prompts = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            prompts.append(_from_json(line) if line.lstrip().startswith("{") else parse_prompt(line.strip()))
        except BadInput as error:
            raise BadInput(f"{path}, line {number}: {error}") from error
        if len(prompts) == limit:
            break
    if not prompts:
        raise BadInput(f"--prompts must hold at least one prompt; {path} is empty")
    return prompts


def read_lines(path: Path) -> list[str]:
    """Prompts, one a line: text, or in a .jsonl file (any case) objects with `prompt`. Raises BadInput."""
    if not path.is_file():
        raise BadInput(f"no prompts at {path}")
    lines = [(number, line.strip()) for number, line in enumerate(lines_of(_read(path)), 1) if line.strip()]
    if not lines:
        raise BadInput(f"{path} must hold prompts; it is empty")
    if path.suffix.lower() != ".jsonl":
        return [line for _, line in lines]
    prompts = []
    for number, line in lines:
        try:
            prompts.append(str(_object_in(line)["prompt"]))
        except BadInput as error:
            raise BadInput(f"{path}, line {number}: {error}") from error
    return prompts


def _object_in(line: str) -> dict[str, Any]:
    """The JSON object of a line, whose `prompt` is a whole text. Raises BadInput for anything else."""
    try:
        data = parse_json(line)
    except ValueError as error:
        raise BadInput(f"not JSON ({error})") from error
    if not isinstance(data, dict):
        raise BadInput(f"must be a JSON object with a prompt; got {line}")
    prompt = data.get("prompt")
    if not isinstance(prompt, str):
        raise BadInput(f"prompt must be a string; got {json.dumps(prompt)}")
    if lone_surrogate(prompt):
        raise BadInput(f"{lone_surrogate(prompt)} is half of a character, which no text can hold alone")
    return data


def _read(path: Path) -> str:
    try:
        return read_text(path)
    except (OSError, UnreadableText) as error:
        raise BadInput(f"--prompts must be a readable text file; got {path} ({error})") from error


def _from_json(line: str) -> Prompt:
    data = _object_in(line)
    unknown = set(data) - {"prompt", *ATTRIBUTES}
    if unknown:
        raise BadInput(f"keys must be among prompt, {', '.join(ATTRIBUTES)}; got {', '.join(sorted(unknown))}")
    for name, allowed in VOCABULARY.items():
        if data.get(name) is not None and data[name] not in allowed:
            raise BadInput(f"{name} must be one of {', '.join(allowed)}; got {data[name]!r}")
    if len(data) == 1:
        return parse_prompt(data["prompt"])
    return Prompt(**data)


def write_prompts(prompts: list[Prompt]) -> str:
    """The JSONL text that `read_prompts` reads."""
    rows = ({key: value for key, value in asdict(prompt).items() if value is not None} for prompt in prompts)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def make_prompts(count: int = 200, seed: int = 0) -> list[Prompt]:
    """`count` different captions whose combinations of colour, shape and motion are held out, each equally often."""

    def say(scene: Scene, rng: np.random.Generator) -> Prompt:
        text = caption(scene, rng)
        stated = parse_prompt(text)
        return Prompt(text, scene.shape, scene.colour, scene.motion, stated.speed, stated.size)

    return held_out_prompts(say, count, seed)


def held_out_prompts(say: Callable[[Scene, np.random.Generator], Prompt], count: int, seed: int) -> list[Prompt]:
    """`count` different prompts that `say` makes of scenes of held-out combinations, each equally often.

    Raises BadInput for more than there are wordings of.
    """
    rng = np.random.default_rng(seed)
    held_out = [
        {"colour": colour, "shape": shape, "motion": motion}
        for colour, shape, motion in itertools.product(COLOURS, SHAPES, MOTIONS)
        if is_held_out(colour, shape, motion) and is_visible(shape, motion)
    ]
    order = [held_out[i] for _ in range(count // len(held_out) + 1) for i in rng.permutation(len(held_out))]
    prompts: dict[str, Prompt] = {}
    for combination in order[:count]:
        said = (say(sample_scene(rng, held_out=True, **combination), rng) for _ in range(TRIES))
        prompt = next((one for one in said if one.prompt not in prompts), None)
        if prompt is None:
            raise BadInput(f"--count must be at most {len(prompts)}, after which no wording is new; got {count}")
        prompts[prompt.prompt] = prompt
    return list(prompts.values())
