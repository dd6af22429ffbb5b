"""Clips of Moving Shapes encoded once to latents, kept in a safetensors file and sampled from memory.

`python -m training.latents --output FILE --movq FILE --kind keyframes --count N` prepares a file; the training stages
read it. Scenes are not stored: they are drawn again from the seed, which the file's metadata names.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch

from fusionframes_core.checkpoints.open_model import load_weights
from fusionframes_core.checkpoints.state_dict import save_weights
from fusionframes_core.models.movq.movq import MoVQ

from .engine.model_config import model_config
from .engine.stage_command import run_command
from .moving_shapes.clips import check_drawn, encode_clips
from .objectives.initial_weights import load_image_part


def prepare(
    output: Path,
    movq: Path,
    kind: str = "keyframes",
    count: int = 12_000,
    seed: int = 0,
    held_out: bool = False,
    preset: str = "tiny",
    decoder: str = "image",
) -> None:
    """Encode `count` clips with the image encoder in `movq` and write them to `output`.

    Args:
        output: safetensors file to write.
        movq: autoencoder weights, of which the encoder counts.
        kind: one of KINDS.
        count: number of clips.
        seed: of the scenes.
        held_out: draw from the combinations that training never sees.
        preset: model whose MoVQ configuration the weights have.
        decoder: the decoder in `movq` (Table 3): "image" for a base stage's file, the preset's own for a finished one.
    """
    check_drawn(count, seed)
    config = model_config(preset)
    model = MoVQ(dataclasses.replace(config.movq, decoder=decoder))
    load_image_part(model, movq) if decoder == "image" else load_weights(model, movq)
    clips = encode_clips(model.eval(), kind, count, seed, held_out, config.size[0])
    settings = {"kind": kind, "count": count, "seed": seed, "held_out": held_out}
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    save_weights({"latents": clips.latents}, output, dtype=torch.float16, metadata={"settings": json.dumps(settings)})


if __name__ == "__main__":
    run_command(prepare)
