"""The list of nodes."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .decode import Decode
from .interpolate import Interpolate
from .keyframes import SampleKeyframes
from .load import LoadModel
from .text import EncodeText

NODES: list[type[io.ComfyNode]] = [LoadModel, EncodeText, SampleKeyframes, Interpolate, Decode]


class FusionFramesExtension(ComfyExtension):
    """What ComfyUI asks for the pack's nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Every node class, in the order of the pipeline."""
        return NODES
