"""Weights that a stage starts from."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from fusionframes_core.checkpoints.open_model import load_weights
from fusionframes_core.checkpoints.state_dict import read_weights


def load_image_part(model: nn.Module, path: Path) -> None:
    """Load an image model from its own file or from that of a video model which was made from it.

    The temporal parts of such a file are left out: of a keyframe U-Net's for the text-to-image U-Net, of a video
    autoencoder's for the image one. Raises CheckpointError where anything else is missing or of another shape.
    """
    weights = read_weights(path)
    wanted = model.state_dict()
    fits = all(name in weights and weights[name].shape == value.shape for name, value in wanted.items())
    if fits:
        model.load_state_dict({name: weights[name] for name in wanted})
    else:
        load_weights(model, path)  # which says what is missing
