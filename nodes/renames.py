"""Names under which a saved workflow may still ask for a node; ComfyUI puts today's node in its place."""

from __future__ import annotations

import sys

from comfy_api.latest import ComfyAPI, io

from .load import LoadMoVQ
from .patch import CloseLoop, ExtendVideo
from .text import SchedulePrompts

RENAMED: dict[str, type[io.ComfyNode]] = {
    "FusionFrames_LoadVAE": LoadMoVQ,
    "FusionFrames_LongVideo": ExtendVideo,
    "FusionFrames_Loop": CloseLoop,
    "FusionFrames_PromptSchedule": SchedulePrompts,
}
"""Old id, or the id that a title suggests whose words are not the id's → the node.

Their required inputs are named: ComfyUI looks up each. Optional ones came later, and old nodes have none.
"""


async def register_renames() -> None:
    """Tell ComfyUI's server, where there is one; inputs and outputs of these nodes kept their names and places."""
    if "server" not in sys.modules:
        return
    api = ComfyAPI()
    for old, node in RENAMED.items():
        schema = node.define_schema()
        names = [given.id for given in schema.inputs if not given.optional]
        replacement = io.NodeReplace(
            new_node_id=schema.node_id,
            old_node_id=old,
            old_widget_ids=[given.id for given in schema.inputs if isinstance(given, io.WidgetInput)],
            input_mapping=[{"new_id": name, "old_id": name} for name in names],
            output_mapping=[{"new_idx": index, "old_idx": index} for index in range(len(schema.outputs))],
        )
        await api.node_replacement.register(replacement)
