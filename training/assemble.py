"""From the weights of the training runs to a model folder: `python -m training.assemble --output FOLDER`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from fusionframes_core.checkpoints.component import ModelParts, build
from fusionframes_core.checkpoints.model_folder import save_model_folder
from fusionframes_core.checkpoints.open_model import load_weights
from fusionframes_core.checkpoints.text_encoder_weights import TOKENIZER_FILE
from fusionframes_core.files import atomic_path
from fusionframes_core.media.latent_preview import LatentColours, colours_of, write_colours
from fusionframes_core.models.movq.movq import MoVQ
from fusionframes_core.models.text_encoder import TextEncoder
from fusionframes_core.models.tokenizer import load_tokenizer

from .engine.model_config import model_config
from .engine.stage_command import run_command
from .moving_shapes.scene_pixels import random_frames

COLOURED_FRAMES = 400  # enough for colours that no longer change in the second decimal


def assemble(
    output: Path,
    text_encoder: Path = Path("runs/text_encoder_2/text_encoder.safetensors"),
    keyframe: Path = Path("runs/keyframes_13/keyframe.safetensors"),
    interpolation: Path = Path("runs/interp_3/interpolation.safetensors"),
    movq: Path = Path("runs/decoder/movq.safetensors"),
    temporal: list[Path] | None = None,
    preset: str = "tiny",
    moving_shapes: bool = True,
) -> None:
    """Write the model folder `output` in 16 bits: config, tokenizer, the four models, other temporal conditionings, and
    colours for previews.

    Args:
        output: folder to write, made if needed; files of the same names in it are replaced.
        text_encoder: weights of the text encoder; its tokenizer.json lies beside it.
        keyframe: weights of the keyframe U-Net.
        interpolation: weights of the interpolation U-Net.
        movq: weights of the video autoencoder.
        temporal: files of temporal parts that runs of train_keyframes wrote, over the image weights of `keyframe`.
        preset: configuration that all of them have.
        moving_shapes: fit the colours of previews to Moving Shapes; without, a host fits them to drawn pictures.
    """
    config = model_config(preset)
    check_conditioning(keyframe, config.keyframe.temporal)
    tokenizer = load_tokenizer(Path(text_encoder).parent / TOKENIZER_FILE)
    parts = ModelParts(
        config=config,
        text_encoder=TextEncoder(config.text, tokenizer),
        keyframe=build(config.keyframe),
        interpolation=build(config.interpolation),
        movq=build(config.movq),
    )
    load_weights(parts.text_encoder, text_encoder)
    load_weights(parts.keyframe, keyframe)
    load_weights(parts.interpolation, interpolation)
    load_weights(parts.movq, movq)
    Path(output).mkdir(parents=True, exist_ok=True)
    save_model_folder(parts, output, dtype=torch.float16)
    if moving_shapes:
        write_colours(shape_colours(parts.movq, config.size[0]), Path(output))
    for file in map(Path, temporal or ()):
        with atomic_path(Path(output) / file.name) as partial:
            partial.write_bytes(file.read_bytes())


def shape_colours(movq: MoVQ, size: int) -> LatentColours:
    """Colours of latents, fitted to frames of Moving Shapes of `size` pixels."""
    frames = random_frames(np.random.default_rng(0), COLOURED_FRAMES, size)
    return colours_of(movq, frames[:, :, 0] / 2 + 0.5)


def check_conditioning(keyframe: Path, temporal: str) -> None:
    """Raise ValueError for weights of another temporal conditioning: their names and shapes may be the same."""
    with safe_open(str(keyframe), framework="pt") as file:
        stored = (file.metadata() or {}).get("temporal", temporal)
    if stored != temporal:
        raise ValueError(
            f"keyframe must be of the preset's conditioning, {temporal}; {keyframe} is of {stored}: give its "
            f"temporal_{stored}.safetensors as --temporal instead"
        )


if __name__ == "__main__":
    run_command(assemble)
