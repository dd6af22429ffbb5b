"""What the commands share: how they end, and what they check before long work. Imports nothing heavy."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch

from fusionframes_core.files import check_writable


class BadInput(ValueError):
    """What the user has to change, in one sentence."""


def exit_code(work: Callable[[], None], interrupted: str) -> int:
    """Do a command's work: 0, or 2 with one sentence on the error output, or 130 and `interrupted` after Ctrl-C."""
    try:
        work()
        return 0
    except (ValueError, OSError) as error:
        code, problem = 2, " ".join(str(error).split())
    except KeyboardInterrupt:
        code, problem = 130, f"interrupted; {interrupted}"
    # The exception has gone, and the progress bars that it held open with it.
    print("error:", problem, file=sys.stderr)
    return code


def check_output(path: Path | None, name: str = "--json") -> None:
    """Raise BadInput unless a file can be written at `path`. For before long work; leaves nothing behind."""
    if path is None:
        return
    if path.is_dir():
        raise BadInput(f"{name} must name a file; {path} is a folder")
    try:
        check_writable(path)
    except ValueError as error:
        raise BadInput(f"{name}: {error}") from error


def check_positive(value: int | None, name: str) -> None:
    """Raise BadInput for a count below 1; None passes."""
    if value is not None and value < 1:
        raise BadInput(f"{name} must be at least 1; got {value}")


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
