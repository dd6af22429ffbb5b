"""Random files of the official names, layout and types, as large as the released ones or smaller.

Each network is made, written and let go, and the text encoder is written a shard at a time: the files may be larger
than the memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fusionframes_core.checkpoints.component import build
from fusionframes_core.checkpoints.convert import (
    official_t5,
    save_official_networks,
    save_text_files,
    version_of,
)
from fusionframes_core.checkpoints.text_encoder_weights import TOKENIZER_FILE, read_tokenizer
from fusionframes_core.config import ModelConfig, MoVQConfig, UNetConfig
from fusionframes_core.models.text_encoder import TextEncoder
from fusionframes_core.presets import KANDINSKY_VIDEO_1_0, KANDINSKY_VIDEO_1_1
from fusionframes_core.settings import size_multiple

VERSIONS = {"1.0": KANDINSKY_VIDEO_1_0, "1.1": KANDINSKY_VIDEO_1_1}
TOKENIZER = Path(__file__).resolve().parents[1] / "fusionframes_core" / "tiny" / TOKENIZER_FILE  # Flan-UL2's: not ours
DTYPE = torch.bfloat16
SHARD_BYTES = 2 * 10**9
BRANCH_SHARE = 0.05  # of the last layer: random weights of full strength would leave the range of 16 bits
TEXT_FOLDER = "text_encoder"
# Where users put the files: folder of ComfyUI's models → the official files in it. The text encoder is a folder.
COMFYUI_PLACES: dict[str, dict[str, tuple[str, ...]]] = {
    "1.0": {"diffusion_models": ("kandinsky_video", "kandinsky_video_interpolation"), "vae": ("movq",)},
    "1.1": {
        "diffusion_models": ("t2v", "interpolation"),
        "text_encoders": ("t5_projections",),
        "vae": ("video_movq", "movq"),
    },
}


class RandomParts:
    """A model's components in 16 bits, as save_official_networks asks for them: each is made when it is, and let go."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config

    @property
    def text_encoder(self) -> TextEncoder:
        """With a T5 of one layer: what is asked of it here is what the text has beside T5."""
        return TextEncoder(replace(self.config.text, num_layers=1), read_tokenizer(TOKENIZER), dtype=DTYPE)

    def __getattr__(self, name: str) -> nn.Module | None:
        config = getattr(self.config, name)
        return None if config is None else calmed(build(config, dtype=DTYPE))


@torch.no_grad()
def calmed(model: nn.Module) -> nn.Module:
    """Random weights whose output stays small, as a trained network's does."""
    last: Any = getattr(model, "out_layer", None)
    if last is not None:
        last[-1].weight.mul_(BRANCH_SHARE)
    return model


def scaled(config: ModelConfig, scale: float) -> ModelConfig:
    """The model with every width divided, in whole heads and groups; at scale 1 the model itself."""
    if scale == 1:
        return config
    text = config.text
    width, layers = near(text.d_model * scale, 64), max(1, round(text.num_layers * scale))
    small = replace(
        text,
        d_model=width,
        d_ff=near(text.d_ff * scale, 64),
        num_layers=layers,
        num_heads=max(1, round(text.num_heads * scale)),
        context_dim=width,
    )
    pixels = near(config.size[0] * scale, size_multiple(config))
    return replace(
        config,
        text=small,
        keyframe=scaled_unet(config.keyframe, scale, width),
        interpolation=replace(config.interpolation, trunk=scaled_unet(config.interpolation.trunk, scale, width)),
        movq=scaled_movq(config.movq, scale),
        image_movq=None if config.image_movq is None else scaled_movq(config.image_movq, scale),
        size=(pixels, pixels),
    )


def scaled_unet(config: UNetConfig, scale: float, context: int) -> UNetConfig:
    """A trunk of another width, whose context is as wide as the text's."""
    width = near(config.model_channels * scale, config.head_dim)
    return replace(config, model_channels=width, init_channels=width, time_embed_dim=4 * width, context_dim=context)


def scaled_movq(config: MoVQConfig, scale: float) -> MoVQConfig:
    """An autoencoder of another width."""
    return replace(config, channels=near(config.channels * scale, config.groups))


def near(value: float, multiple: int) -> int:
    """The nearest multiple, at least one."""
    return max(1, round(value / multiple)) * multiple


def write_files(config: ModelConfig, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
    """The whole folder, as released: nothing beside the weights says what they are."""
    parts: Any = RandomParts(config)
    save_official_networks(parts, folder)
    write_text_encoder(config, folder / TEXT_FOLDER, shard_bytes)


def write_text_encoder(config: ModelConfig, folder: Path, shard_bytes: int) -> None:
    """T5's encoder as shards of at most `shard_bytes` beside an index, as transformers writes them."""
    encoder = TextEncoder(config.text, read_tokenizer(TOKENIZER), device="meta", dtype=DTYPE)
    folder.mkdir(parents=True, exist_ok=True)
    save_text_files(encoder, folder)
    tensors = official_t5(encoder, version_of(config))
    groups = list(grouped(tensors, shard_bytes))
    placed: dict[str, str] = {}
    for number, names in enumerate(groups, 1):
        shard = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        save_file(
            {name: drawn(name, tensors[name], config.text.d_kv) for name in names}, folder / shard, {"format": "pt"}
        )
        placed |= dict.fromkeys(names, shard)
    size = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": placed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", "utf-8")


def drawn(name: str, like: Tensor, d_kv: int) -> Tensor:
    """Random weights of T5: norms are ones; queries are small, because T5 does not scale them."""
    made = torch.empty(like.shape, dtype=like.dtype)
    if made.ndim == 1:
        return made.fill_(1.0)
    bound = (3 / (made.shape[1] * (d_kv if name.endswith(".q.weight") else 1))) ** 0.5
    return made.uniform_(-bound, bound)


def grouped(tensors: dict[str, Tensor], most: int) -> Iterator[list[str]]:
    """Names of tensors that are together at most `most` bytes; a larger tensor is alone."""
    group: list[str] = []
    size = 0
    for name, tensor in tensors.items():
        if group and size + tensor.nbytes > most:
            yield group
            group, size = [], 0
        group.append(name)
        size += tensor.nbytes
    yield group


def link_for_comfyui(folder: Path, version: str, models: Path) -> None:
    """The same files once more, as links, where users of ComfyUI put them: see docs/comfyui.md."""
    for place, stems in COMFYUI_PLACES[version].items():
        for stem in stems:
            _link(folder / f"{stem}.pt", models / place / f"kandinsky-{version}" / f"{stem}.pt")
    for file in (folder / TEXT_FOLDER).iterdir():
        _link(file, models / "text_encoders" / "flan-ul2" / file.name)


def _link(file: Path, link: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    os.link(file, link)
