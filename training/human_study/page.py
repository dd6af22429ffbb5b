"""The page: videos under names that say nothing, sides drawn for each pair, no word of the models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from ..data.items import DataError
from ..engine.command_line import BadInput
from ..engine.durable_files import write_json
from ..evaluation.video_folders import pairs_of, prompts_of

TEMPLATE = Path(__file__).with_name("page.html")
QUESTIONS = {
    "quality": "Which video has the better frame quality?",
    "text": "Which video agrees better with the text?",
    "consistency": "Which video is more consistent over time?",
}
ANSWERS = ("left", "same", "right")


def build(
    folders: dict[str, Path], captions: Path | None, page: Path, key: Path, seed: int = 0, limit: int | None = None
) -> dict[str, Any]:
    """Write the page's folder and the key, and return the key: for each pair which model is on which side.

    `folders` are two models' videos by the models' names; videos of one name are a pair. Raises DataError or BadInput.
    """
    (first, second), names = folders.values(), list(folders)
    if key.resolve().is_relative_to(page.resolve()):
        raise BadInput(f"--key must lie outside the page, so that nobody sees it; got {key}")
    if page.exists() and any(page.iterdir()):
        raise BadInput(f"--page must be a new or an empty folder; {page} is not")
    texts = {path.stem: text for path, text in prompts_of(first, captions)}
    pairs = pairs_of(second, first)[:limit]
    if {path.suffix for pair in pairs for path in pair} - {".mp4", ".webm", ".gif"}:
        raise DataError("videos must be .mp4, .webm or .gif, which browsers show")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(pairs))
    public, secret = [], []
    (page / "videos").mkdir(parents=True, exist_ok=True)
    for number, index in enumerate(order):
        other, own = pairs[index]
        sides = [(names[0], own), (names[1], other)]
        if rng.random() < 0.5:
            sides.reverse()
        entry: dict[str, Any] = {"pair": number, "text": texts[own.stem]}
        for side, (_, path) in zip(("left", "right"), sides, strict=True):
            entry[side] = f"videos/{number:04d}_{side}{path.suffix}"
            shutil.copyfile(path, page / entry[side])
        public.append(entry)
        secret.append({"pair": number, "video": own.name, "left": sides[0][0], "right": sides[1][0]})
    identity = f"{seed}-{rng.integers(2**32):08x}"
    report = {"study": identity, "models": names, "pairs": secret}
    write_json(key, report)
    (page / "index.html").write_text(fill(public, identity), "utf-8")
    return report


def fill(pairs: list[dict[str, Any]], study: str) -> str:
    """The template with its data."""
    data = json.dumps({"study": study, "questions": QUESTIONS, "pairs": pairs}, ensure_ascii=False)
    return TEMPLATE.read_text("utf-8").replace("{{data}}", data.replace("<", "\\u003c"))
