"""Files of temporal parts: another temporal conditioning (paper section 4.1) over the same image U-Net.

A model folder may hold `temporal_<name>.safetensors` beside its keyframe U-Net. `none`, the image U-Net, needs no file.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from ..config import UNetConfig, from_dict, to_dict
from ..errors import CheckpointError, one_sentence
from ..models.temporal import temporal_parameters
from ..models.unet.temporal_layers import TEMPORAL_BLOCKS
from ..models.unet.unet import UNet
from .component import Component, build
from .state_dict import save_weights
from .weights_file import open_weights

AUTO, NONE = "auto", "none"
TEMPORAL_CHOICES = (AUTO, *TEMPORAL_BLOCKS)


def save_temporal_weights(unet: UNet, path: str | Path, dtype: torch.dtype | None = torch.float16) -> None:
    """Write the temporal parts of a keyframe U-Net, whole or not at all, with the configuration that they need."""
    metadata = {"fusionframes": "temporal", "config": json.dumps(to_dict(unet.config))}
    save_weights(dict(temporal_parameters(unet)), path, dtype, metadata)


def temporal_path(folder: Path, name: str) -> Path:
    """Where a model folder has the temporal parts of a name."""
    return folder / f"temporal_{name}.safetensors"


def temporal_choices(component: Component) -> tuple[str, ...]:
    """The names that `with_temporal` can give a keyframe U-Net."""
    own = {AUTO, NONE, component.config.temporal}
    return tuple(name for name in TEMPORAL_CHOICES if name in own or temporal_path(component.folder, name).is_file())


def with_temporal(component: Component, name: str) -> Component:
    """A keyframe U-Net with the temporal parts of a name; "auto" leaves it as it is.

    Raises ValueError for a name that is none, CheckpointError when its file is missing or belongs to another U-Net.
    """
    if name not in TEMPORAL_CHOICES:
        raise ValueError(f"temporal_blocks must be one of {', '.join(TEMPORAL_CHOICES)}; got {name!r}")
    config = component.config
    if component.kind.name != "keyframe" or name in (AUTO, config.temporal):
        return component
    own = temporal_names(config)
    image = [(file, {o: t for o, t in names.items() if o not in own}) for file, names in component.sources]
    if name == NONE:
        chosen = replace(config, temporal=NONE, motion_score=False, noise_augmentation=False)
        return replace(component.with_config(chosen), sources=image)
    path = temporal_path(component.folder, name)
    if not path.is_file():
        known = ", ".join(temporal_choices(component))
        raise CheckpointError(f"temporal_blocks {name!r} needs {path.name} in {component.folder}; there are {known}")
    file = open_weights(path)
    with one_sentence(f"{path} holds no temporal parts of a keyframe U-Net"):
        chosen = from_dict(UNetConfig, json.loads(file.metadata["config"]))
    if _image_sizes(chosen) != _image_sizes(config) or chosen.temporal != name:
        raise CheckpointError(
            f"{path} belongs to another U-Net: its temporal parts are {chosen.temporal}, or other sizes"
        )
    sources = [*image, (file, {key: key for key in file.entries})]
    return replace(component.with_config(chosen), sources=sources)


def temporal_names(config: UNetConfig) -> set[str]:
    """Names of the weights that the image U-Net does not have."""
    return {name for name, _ in temporal_parameters(build(config, device="meta"))}


def _image_sizes(config: UNetConfig) -> UNetConfig:
    """The configuration without what the temporal parts alone decide."""
    plain = replace(config, temporal=NONE, temporal_conditioning="separate", temporal_place="none")
    return replace(plain, motion_score=False, noise_augmentation=False)
