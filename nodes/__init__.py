"""The list of nodes."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .interpolate import Interpolate, PrepareInterpolation
from .keyframes import EmptyVideoLatent, SampleKeyframes
from .load import LoadModel
from .patch import CloseLoop, ExtendVideo, PlanSampling
from .pixels import Decode, EncodeVideo
from .text import EncodeText, LoadConditioning, SaveConditioning, SchedulePrompts

NODES: list[type[io.ComfyNode]] = [
    LoadModel,
    EncodeText,
    SchedulePrompts,
    SaveConditioning,
    LoadConditioning,
    EmptyVideoLatent,
    SampleKeyframes,
    ExtendVideo,
    CloseLoop,
    PlanSampling,
    Interpolate,
    PrepareInterpolation,
    Decode,
    EncodeVideo,
]


class FusionFramesExtension(ComfyExtension):
    """What ComfyUI asks for the pack's nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Every node class, in the order of the pipeline."""
        return NODES
