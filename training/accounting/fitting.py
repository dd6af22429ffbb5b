"""Which settings make a stage fit a card."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from fusionframes_core.models.free_memory import available_bytes

from .card_memory import GB, PlannedStage, Setting, total

Change = tuple[str, Any]
CHANGES: tuple[Change, ...] = (
    ("checkpointing", True),
    ("frozen", "bf16"),
    ("optimizer", "adamw8bit"),
    ("shard", "optimizer"),
    ("shard", "full"),
)
BASE_CHANGES: tuple[Change, ...] = (("checkpointing", True), ("base", "bf16"), ("base", "8bit"), ("base", "4bit"))
AMPLE = 50
"""A card with so many times the memory of the weights fits any step that makes sense: it is not counted, which takes
tens of seconds for a network of billions of parameters and would for a small one."""
BASE_ORDER = ("fp32", "bf16", "8bit", "4bit")
IN_CONFIG = {"checkpointing": "train.activation_checkpointing", "base": "base"}


def candidates(stage: PlannedStage, cards: int) -> Iterator[tuple[list[str], Setting]]:
    """The run's own setting, then with one change after the other, those that cost least first, in words too."""
    said: list[str] = []
    setting = stage.setting
    yield said, setting
    for name, value in BASE_CHANGES if stage.has_base else CHANGES:
        if getattr(setting, name) == value or not _applies(stage, setting, name, value, cards):
            continue
        if value == "full" and setting.optimizer == "adamw8bit":  # 8-bit states have no shards
            setting = replace(setting, optimizer="adamw")
            said = [word for word in said if "optimizer: adamw8bit" not in word]
        setting = replace(setting, **{name: value})
        kept = [word for word in said if not word.startswith(f"{config_name(name)}:")]
        said = [*kept, f"{config_name(name)}: {str(value).lower()}"]
        yield said, setting


def _applies(stage: PlannedStage, setting: Setting, name: str, value: Any, cards: int) -> bool:
    if name == "shard":
        return cards > 1 and setting.shard != "full"
    if name == "frozen":
        return setting.precision == "bf16" and stage.trace(setting).sizes.frozen > 0
    if name == "base":
        return BASE_ORDER.index(value) > BASE_ORDER.index(setting.base)
    return True


def config_name(name: str) -> str:
    """What a setting is called in a config file."""
    return IN_CONFIG.get(name, f"train.{name}")


def first_that_fits(stage: PlannedStage, cards: int, memory: float) -> tuple[list[str], Setting] | None:
    """The changes, in words, that make the stage fit `memory` bytes on each card, and the setting; None: nothing."""
    for said, setting in candidates(stage, cards):
        if total(stage, setting, cards) <= memory:
            return said, setting
    return None


def check_fits(stage: PlannedStage, cards: int, memory: float | None) -> None:
    """Raise ValueError, which says what to change, when the stage's own setting does not fit `memory` bytes.

    None: nothing is known of the device.
    """
    if memory is None or AMPLE * stage.weights() < memory:
        return
    needed = total(stage, stage.setting, cards)
    if needed <= memory:
        return
    found = first_that_fits(stage, cards, memory)
    way_out = f"say {', '.join(found[0])}" if found else "take a smaller size, fewer frames, or a larger card"
    raise ValueError(
        f"{stage.name} cannot fit: it takes about {needed / GB:.1f} GB on each card, and {memory / GB:.1f} GB are "
        f"free; {way_out}"
    )


def compute_device() -> torch.device:
    """This process's accelerator, or the CPU."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is None:
        return torch.device("cpu")
    return torch.device(accelerator.type, int(os.environ.get("LOCAL_RANK", 0)))


def check_here(stage: PlannedStage) -> None:
    """`check_fits` for this process's device, as a launcher started it; before weights load. Raises ValueError."""
    device = compute_device()
    free = available_bytes(device)
    if free is not None and device.type == "cpu":  # which its processes share
        free //= int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        stage = replace(stage, setting=replace(stage.setting, device="cpu"))
    check_fits(stage, int(os.environ.get("WORLD_SIZE", 1)), free)
