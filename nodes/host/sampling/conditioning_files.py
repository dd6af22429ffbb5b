"""Files of encoded prompts, so that a text encoder need not stay in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ....fusionframes_core.checkpoints.state_dict import read_weights, save_weights

MASK = "attention_mask"
MASKED = {"mask_strength": 1.0, "set_area_to_bounds": False}  # of a schedule's mask; the files hold no others


def save_conditioning(conditioning: Any, file: Path) -> None:
    """Write contexts and masks. Raises ValueError for what else a conditioning may carry."""
    tensors = {}
    for index, (context, options) in enumerate(conditioning):
        extra = sorted(key for key, value in options.items() if value is not None and key not in (MASK, "mask"))
        extra = [key for key in extra if key != "pooled_output" and (key not in MASKED or options[key] != MASKED[key])]
        if extra:
            raise ValueError(f"conditioning must be a prompt's, encoded or scheduled; this one has {', '.join(extra)}")
        tensors[f"{index}.context"] = context
        tensors |= {f"{index}.{key}": options[key] for key in (MASK, "mask") if options.get(key) is not None}
    save_weights(tensors, file, dtype=None)


def load_conditioning(file: Path) -> Any:
    """Read what `save_conditioning` wrote. Raises ValueError when the file is missing or no conditioning."""
    tensors = read_weights(file)
    count = sum(key.endswith(".context") for key in tensors)
    if not count or any(f"{index}.context" not in tensors for index in range(count)):
        raise ValueError(f"{file.name} is no conditioning: FusionFrames Save Conditioning writes them")
    entries = []
    for index in range(count):
        options: dict[str, Any] = {"pooled_output": None}
        options |= {key: tensors[f"{index}.{key}"] for key in (MASK, "mask") if f"{index}.{key}" in tensors}
        if "mask" in options:
            options |= MASKED
        entries.append([tensors[f"{index}.context"], options])
    return entries
