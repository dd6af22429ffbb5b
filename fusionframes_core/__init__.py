"""FusionFrames text-to-video without ComfyUI: `FusionFramesPipeline.from_pretrained("tiny")("a red circle")`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .pipeline import FusionFramesPipeline as FusionFramesPipeline
    from .pipeline import GenerationResult as GenerationResult
    from .sampling.callbacks import Stopped as Stopped
    from .settings import GenerationSettings as GenerationSettings

_HOMES = {
    "FusionFramesPipeline": ".pipeline",
    "GenerationResult": ".pipeline",
    "GenerationSettings": ".settings",
    "Stopped": ".sampling.callbacks",
}
__all__ = ["FusionFramesPipeline", "GenerationResult", "GenerationSettings", "Stopped"]


def __getattr__(name: str) -> Any:
    """Import the public names when they are asked for, so that importing a submodule does not import them all."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name], __name__), name)
