"""The list of nodes."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import host
from .guide import AddGuide
from .image import DrawFirstFrame, ImageToVideo, PrepareFirstFrame
from .interpolate import Interpolate, PrepareInterpolation
from .keyframes import EmptyVideoLatent, SampleKeyframes
from .load import LoadModel, LoadMoVQ, LoadTextEncoder, LoadUNet
from .patch import CloseLoop, ExtendVideo, PlanSampling
from .pixels import Decode, EncodeVideo
from .renames import register_renames
from .text import EncodeText, LoadConditioning, SaveConditioning, SchedulePrompts

NODES: list[type[io.ComfyNode]] = [
    LoadModel,
    LoadUNet,
    LoadTextEncoder,
    LoadMoVQ,
    EncodeText,
    SchedulePrompts,
    SaveConditioning,
    LoadConditioning,
    EmptyVideoLatent,
    SampleKeyframes,
    DrawFirstFrame,
    ImageToVideo,
    PrepareFirstFrame,
    ExtendVideo,
    CloseLoop,
    AddGuide,
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
        host.offer_bundled_loras()
        host.offer_example_inputs()
        host.warn_of_old_frontend()
        host.watch_stock_loaders()
        await register_renames()
        return NODES
