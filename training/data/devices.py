"""Where the frozen networks of a command compute."""

from __future__ import annotations

import torch


def check_device(name: str) -> None:
    """Raise ValueError unless torch has the device `name` here; for before long work, nothing is allocated."""
    known = device_names()
    if name not in known:
        raise ValueError(f"--device must be one of {', '.join(known)} on this machine; got {name!r}")


def device_names() -> list[str]:
    """`cpu`, and where there is an accelerator its kind and each of its kind: `cuda`, `cuda:0`, ..."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is None:
        return ["cpu"]
    return ["cpu", accelerator.type, *(f"{accelerator.type}:{i}" for i in range(torch.accelerator.device_count()))]
