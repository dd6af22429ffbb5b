"""Names of the official MoVQ checkpoints (`movq.pt`, `video_movq.pt`) and ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")

# (official, ours): all other names are equal
MOVQ_RENAMES = (
    (".temporal_projection1.", ".temporal1.projection."),
    (".temporal_projection2.", ".temporal2.projection."),
    (".temporal_merge1", ".temporal1.merge.weight"),
    (".temporal_merge2", ".temporal2.merge.weight"),
)


def movq_from_official(state: Mapping[str, Value]) -> dict[str, Value]:
    """The values under our names; no value is changed."""
    renamed = {}
    for name, value in state.items():
        for official, ours in MOVQ_RENAMES:
            name = name.replace(official, ours)
        renamed[name] = value
    return renamed
