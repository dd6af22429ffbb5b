"""What a weights file or a model folder holds, read from the headers alone."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from .checkpoints import CONFIG_FILE, MODEL_FILES, CheckpointError, load_config

# A key that only one kind of model has → its name, the most telling first.
_MARKS = {
    "null_embedding": "text encoder",
    "group_embedding.skip_frames.weight": "interpolation U-Net",
    "frame_embedding.position.linear_in.weight": "keyframe U-Net",
    "skip_embeddings.weight": "interpolation U-Net with official names",
    "to_temporal_embed.1.weight": "keyframe U-Net with official names",
    "in_layer.weight": "text-to-image U-Net",
    "decoder.conv_in.weight": "MoVQ autoencoder",
}


@dataclass(frozen=True)
class FileSummary:
    """A safetensors file: what kind of model, how many parameters, in which types."""

    path: Path
    kind: str
    num_parameters: int
    dtypes: dict[str, int]  # type → parameters

    def __str__(self) -> str:
        types = ", ".join(self.dtypes)
        size = self.path.stat().st_size / 2**20
        return f"{self.path.name}: {self.kind}, {self.num_parameters:,} parameters, {types}, {size:.1f} MiB"


def inspect_file(path: str | Path) -> FileSummary:
    """Summarise a safetensors file. Raises CheckpointError when it is missing, cut short or of another format."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no weights at {path}: the file does not exist")
    dtypes: Counter[str] = Counter()
    try:
        with safe_open(path, framework="pt") as file:
            keys = list(file.keys())
            for key in keys:
                part = file.get_slice(key)
                dtypes[part.get_dtype()] += math.prod(part.get_shape())
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"cannot inspect {path}: it must be a complete safetensors file ({error})") from error
    kind = next((name for mark, name in _MARKS.items() if mark in keys), "unknown model")
    return FileSummary(path, kind, sum(dtypes.values()), dict(dtypes))


def inspect_path(path: str | Path) -> str:
    """A few lines on a file, or on every model of a folder."""
    path = Path(path)
    if not path.is_dir():
        return str(inspect_file(path))
    if not (path / CONFIG_FILE).is_file():
        raise CheckpointError(f"{path} must be a weights file or a model folder; it holds no {CONFIG_FILE}")
    config = load_config(path)
    found = [inspect_file(path / f"{name}.safetensors") for name in MODEL_FILES]
    total = sum(summary.num_parameters for summary in found)
    height, width = config.size
    head = f"{config.name}: {config.num_frames} keyframes at {config.fps:g} FPS, {height}x{width}, {total:,} parameters"
    return "\n".join([head, *map(str, found)])
