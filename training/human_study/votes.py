"""Votes: one JSON object a line, with study, voter, pair, question and answer."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from ..engine.command_line import BadInput
from ..evaluation.video_metrics import wilson
from .page import ANSWERS, QUESTIONS

Vote = dict[str, Any]


def check_vote(vote: Any) -> None:
    """Raise BadInput unless `vote` is a vote."""
    if not isinstance(vote, dict):
        raise BadInput(f"a vote must be an object; got {vote!r}")
    for name, kind in (("study", str), ("voter", str), ("pair", int), ("question", str), ("answer", str)):
        if not isinstance(vote.get(name), kind):
            raise BadInput(f"a vote must have {name}; got {vote!r}")
    for name, allowed in (("question", tuple(QUESTIONS)), ("answer", ANSWERS)):
        if vote[name] not in allowed:
            raise BadInput(f"{name} must be one of {', '.join(allowed)}; got {vote[name]!r}")


def read_votes(paths: list[Path]) -> list[Vote]:
    """Votes of all files; a voter's last vote on a pair and question counts. Raises BadInput with file and line."""
    votes: dict[tuple[str, str, int, str], Vote] = {}
    for path in paths:
        if not path.is_file():
            raise BadInput(f"no votes at {path}")
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if not line.strip():
                continue
            try:
                vote = json.loads(line)
                check_vote(vote)
            except ValueError as error:
                raise BadInput(f"{path}, line {number}: {error}") from error
            votes[vote["study"], vote["voter"], vote["pair"], vote["question"]] = vote
    return list(votes.values())


def summarise(votes: list[Vote], key: Path) -> dict[str, Any]:
    """Wins of each model and ties by question, the share of wins among the decided with its 95 % interval, and p."""
    try:
        secret = json.loads(key.read_text("utf-8"))
        study, models = secret["study"], secret["models"]
        sides = {entry["pair"]: entry for entry in secret["pairs"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{key} must be the key that `python -m training.human_study build` wrote") from error
    foreign = next((vote for vote in votes if vote["study"] != study or vote["pair"] not in sides), None)
    if foreign is not None:
        raise BadInput(f"votes must be of the study {study}; got one of {foreign['study']}, pair {foreign['pair']}")
    questions = {}
    for question in QUESTIONS:
        answers = [(sides[vote["pair"]], vote["answer"]) for vote in votes if vote["question"] == question]
        winners = [side.get(answer, "same") for side, answer in answers]
        wins = {model: winners.count(model) for model in models}
        decided = sum(wins.values())
        questions[question] = {
            "wins": wins,
            "same": winners.count("same"),
            "share": {model: count / decided if decided else None for model, count in wins.items()},
            "interval": {model: list(wilson(count, decided)) for model, count in wins.items()},
            "p": sign_test(wins[models[0]], decided),
        }
    voters, pairs = ({vote[name] for vote in votes} for name in ("voter", "pair"))
    counts = {"votes": len(votes), "voters": len(voters), "pairs": len(pairs)}
    return {"models": models, **counts, "questions": questions}


def sign_test(wins: int, total: int) -> float:
    """Two-sided probability of a split at least as uneven, were both models alike (votes taken as independent)."""
    least = min(wins, total - wins)
    tail = sum(math.comb(total, k) for k in range(least + 1)) / 2**total
    return min(1.0, 2 * tail)


def summary_table(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows: question, each model's wins with their share, ties, p."""
    rows = []
    for question, result in report["questions"].items():
        shares = [_share(result["wins"][model], result["share"][model]) for model in report["models"]]
        rows.append((question, *shares, str(result["same"]), f"{result['p']:.3g}"))
    return rows


def _share(wins: int, share: float | None) -> str:
    return str(wins) if share is None else f"{wins} ({share:.0%})"
