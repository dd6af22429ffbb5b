"""What a LoRA is trained on: the checks before the base's weights load, and what its file says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fusionframes_core.checkpoints.component import StoredModel
from fusionframes_core.checkpoints.lora import matrices, misfit
from fusionframes_core.checkpoints.weights_file import WeightsFile, open_weights
from fusionframes_core.config import ModelConfig
from fusionframes_core.settings import spatial_factor

from ..data.encoder_identity import component_identity
from ..data.prepared_clips import PreparedClips

LATENT_CHANNELS = 4
FIRST_FRAME_CHANNELS = LATENT_CHANNELS + 1  # its latent, and where it is


def trunk_of(config: ModelConfig, part: str) -> Any:
    """The UNetConfig of a model's U-Net."""
    return config.keyframe if part == "keyframe" else config.interpolation.trunk


def temporal_of(config: ModelConfig, part: str) -> str:
    """In words, how a model's U-Net mixes frames."""
    if part == "keyframe":
        return config.keyframe.temporal
    attention = "attention, " if config.interpolation.temporal_attention else ""
    return f"{attention}convolutions merged by {config.interpolation.temporal_merge}"


def base_metadata(model: StoredModel, part: str) -> dict[str, str]:
    """What the LoRA's file says of the base that it changes."""
    identity = component_identity(model.components[part])
    return {
        "fusionframes": f"lora {part}",
        "model": model.config.name,
        "temporal": temporal_of(model.config, part),
        "base_file": identity["file"],
        "base_fingerprint": identity["fingerprint"],
    }


def check_part(config: ModelConfig, part: str) -> None:
    """Raise ValueError unless the input of a model's U-Net is what training gives."""
    wanted = LATENT_CHANNELS + FIRST_FRAME_CHANNELS * config.keyframe.image_input
    channels = config.keyframe.in_channels
    if part == "keyframe" and channels != wanted:
        more = ", and those of a first frame" if config.keyframe.image_input else " alone"
        raise ValueError(
            f"model must have a keyframe U-Net of {wanted} input channels, noisy latents{more}; {config.name}'s has "
            f"{channels}: take part interpolation"
        )


def check_data(folders: Sequence[Path], clips: PreparedClips, model: StoredModel, part: str) -> None:
    """Raise ValueError where prepared clips are of other latents or texts than a model's U-Net takes."""
    config = model.config
    trunk = trunk_of(config, part)
    width, multiple = clips.null.tokens.shape[-1], 2 ** (len(trunk.channel_mult) - 1)
    if width != trunk.context_dim:
        raise ValueError(
            f"data must have texts of {trunk.context_dim} numbers a token, as {config.name}'s text encoder makes them; "
            f"{folders[0]} has {width}: prepare it with --model {config.name}'s folder"
        )
    for channels, height, width in clips.latent_sizes():
        if channels != LATENT_CHANNELS or height % multiple or width % multiple:
            factor = spatial_factor(config.movq)
            raise ValueError(
                f"data must have latents of {LATENT_CHANNELS} channels whose sides are multiples of {multiple} for "
                f"{config.name} (of {multiple * factor} pixels); {folders[0]} has {channels}x{height}x{width}"
            )
    own = component_identity(model.components["movq"])["fingerprint"] if "movq" in model.components else None
    for folder, made in clips.autoencoders().items():
        if own is not None and made is not None and made["fingerprint"] != own:
            raise ValueError(
                f"data must be encoded by {config.name}'s autoencoder ({own}); {folder} was encoded by another one, "
                f"{made['file']} ({made['fingerprint']}): prepare it again with this model as --model"
            )


def open_init(path: Path, model: StoredModel, part: str, rank: int) -> WeightsFile:
    """A LoRA file to go on from. Raises ValueError for one of another U-Net, base, temporal blocks or rank."""
    file = open_weights(path)
    wanted, said = base_metadata(model, part), file.metadata
    reasons: Mapping[str, str] = {
        "fusionframes": "is a {0}, this trains a {1}",
        "temporal": "was trained on other temporal blocks, {0}; the model has {1}",
        "base_fingerprint": "was trained on another version of the base, {0}; the model's file is {1}",
    }
    for name, words in reasons.items():
        if said.get(name, wanted[name]) != wanted[name]:
            raise ValueError(f"init {path} {words.format(said[name], wanted[name])}")
    problem = misfit(matrices(model.config, part), file.entries)
    if problem:
        raise ValueError(f"init {path} is no LoRA of {model.config.name}'s {part} U-Net: {problem}")
    if said.get("rank", str(rank)) != str(rank):
        raise ValueError(f"rank must be init's, {said['rank']}; got {rank}")
    return file
