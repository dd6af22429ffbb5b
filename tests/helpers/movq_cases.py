"""Small and full-size autoencoder configurations, and random small autoencoders, for the MoVQ tests."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from fusionframes_core.config import MoVQConfig
from fusionframes_core.models.movq.movq import MoVQ

SMALL = MoVQConfig(
    latent_channels=4,
    channels=8,
    channel_mult=(1, 2),
    num_res_blocks=1,
    attention_levels=(1,),
    groups=4,
    patch_size=2,
    latent_activation="tanh",
    decoder="image",
    attention_norm="per_frame",
    temporal_merge="residual",
)
OFFICIAL = MoVQConfig(
    latent_channels=4,
    channels=256,
    channel_mult=(1, 2, 2, 4),
    num_res_blocks=2,
    attention_levels=(3,),
    groups=32,
    patch_size=1,
    latent_activation="none",
    decoder="image",
    attention_norm="first_frame",
    temporal_merge="convex",
)


def random_movq(**changes: object) -> MoVQ:
    """A small autoencoder whose every parameter is random, the merge weights too."""
    movq = MoVQ(dataclasses.replace(SMALL, **changes)).eval()
    with torch.no_grad():
        for name, parameter in movq.named_parameters():
            if name.endswith("merge.weight"):
                parameter.uniform_(0.3, 0.7)
    return movq


def random_latents(batch: int = 2, frames: int = 5) -> Tensor:
    return torch.randn(batch, 4, frames, 4, 6)
