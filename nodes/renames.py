"""Names under which a saved workflow may still ask for a node; ComfyUI puts today's node in its place."""

from __future__ import annotations

from comfy_api.latest import ComfyAPI, io

RENAMED: dict[str, str] = {
    "FusionFrames_LongVideo": "FusionFrames_ExtendVideo",
    "FusionFrames_Loop": "FusionFrames_CloseLoop",
    "FusionFrames_SamplingOfRecord": "FusionFrames_PlanSampling",
    "FusionFrames_PromptSchedule": "FusionFrames_SchedulePrompts",
}
"""Old id, or the id that a node's title suggests → the node's id."""


async def register_renames() -> None:
    """Tell ComfyUI. Inputs and outputs of these nodes kept their names."""
    api = ComfyAPI()
    for old, new in RENAMED.items():
        await api.node_replacement.register(io.NodeReplace(new_node_id=new, old_node_id=old))
