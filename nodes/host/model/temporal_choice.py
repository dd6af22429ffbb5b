"""Another temporal conditioning for a keyframe MODEL that is patched already."""

from __future__ import annotations

import copy
import logging
import uuid
from typing import Any

from ....fusionframes_core.checkpoints.temporal_blocks import AUTO, temporal_names
from .loaders import load_unet


def with_blocks(model: Any, name: str) -> Any:
    """A keyframe MODEL with the temporal parts of a name ("auto": as it is), and with the patches that it has.

    LoRA changes of the image U-Net stay; those of temporal parts that are no longer there are left out, with a warning
    in the log. Raises ValueError when there are no parts of that name.
    """
    if name == AUTO:
        return model
    part, precision, loaded = model.cached_patcher_init[1]
    if name == loaded:
        return model
    other = load_unet(part, precision, name)
    gone = {f"diffusion_model.{key}" for key in temporal_names(model.model.config.keyframe)}
    kept = {key: patches[:] for key, patches in model.patches.items() if key not in gone}
    if len(kept) < len(model.patches):
        dropped = len(model.patches) - len(kept)
        logging.warning("FusionFrames: %d LoRA changes of temporal parts do not apply to %s", dropped, name)
    other.patches, other.patches_uuid = kept, uuid.uuid4()
    other.model_options = copy.copy(model.model_options)
    other.object_patches = model.object_patches.copy()
    other.wrappers = {place: dict(found) for place, found in model.wrappers.items()}
    return other
