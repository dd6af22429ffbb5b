"""Official checkpoints and ours: names in both directions, what a file is, and its architecture."""

from __future__ import annotations

from .architecture import Hints, interpolation_config, movq_config, text_config, unet_config
from .identify import TEXT_PREFIX, TITLES, Identity, identify
from .rules import RULES, TEXT_RULES, official_from_ours, ours_from_official, to_official, to_ours

__all__ = [
    "RULES",
    "TEXT_PREFIX",
    "TEXT_RULES",
    "TITLES",
    "Hints",
    "Identity",
    "identify",
    "interpolation_config",
    "movq_config",
    "official_from_ours",
    "ours_from_official",
    "text_config",
    "to_official",
    "to_ours",
    "unet_config",
]
