"""ModelPatchers as the running ComfyUI makes them."""

from __future__ import annotations

from typing import Any

import comfy.model_patcher


def patcher_class(dynamic: bool = True) -> Any:
    """The class that takes part in dynamic VRAM (from 0.16), looked up now: it is chosen when ComfyUI starts."""
    plain = comfy.model_patcher.ModelPatcher
    return getattr(comfy.model_patcher, "CoreModelPatcher", plain) if dynamic else plain
