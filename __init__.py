"""FusionFrames for ComfyUI: what ComfyUI calls when it loads this folder as a custom-node pack."""

from __future__ import annotations

from typing import Any

WEB_DIRECTORY = "web"


async def comfy_entrypoint() -> Any:
    """The pack's extension object (comfy_api.latest.ComfyExtension)."""
    from .nodes import FusionFramesExtension

    return FusionFramesExtension()
