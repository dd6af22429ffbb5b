"""ModelPatchers as the running ComfyUI makes them."""

from __future__ import annotations

from typing import Any

import comfy.model_patcher


def patcher_class(dynamic: bool = True) -> Any:
    """The class that takes part in dynamic VRAM where there is any, looked up now: it is chosen when ComfyUI starts."""
    return comfy.model_patcher.CoreModelPatcher if dynamic else comfy.model_patcher.ModelPatcher
