"""Clips of Moving Shapes encoded once to latents: drawn, kept in a safetensors file, sampled from memory."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm import tqdm

from fusionframes_core.media.frames import to_pixels
from fusionframes_core.models.movq.movq import MoVQ

from .scenes import (
    CLIP_LENGTH,
    FAST_MOTIONS,
    MOTIONS,
    NEW_SHAPES,
    PLAIN,
    SHAPES,
    TILTED,
    Scene,
    keyframe_times,
    render,
    sample_scene,
)

MAX_SKIP = 12  # section 4.2: s ∈ {1, ..., 12}
WINDOW = 33  # 9 keyframes and the three frames between every two
KEYFRAME_MOTIONS: dict[str, tuple[str, ...]] = {
    "keyframes": tuple(MOTIONS),
    "turning": ("spinning", "circling"),
    "spinning": ("spinning",),
    "plain": (PLAIN,),
    "tilted": (TILTED,),
}
KINDS = (*KEYFRAME_MOTIONS, "windows")


@dataclasses.dataclass
class Clips:
    """`scenes` (N), `latents` (N, 4, T, h, w), `times` (N, T) in base frames, `skip_frames` (N,)."""

    scenes: list[Scene]
    latents: Tensor
    times: Tensor
    skip_frames: Tensor


def draw_clip(
    rng: np.random.Generator, kind: str, held_out: bool | None = False, shape: str | None = None
) -> tuple[Scene, np.ndarray, int]:
    """A scene, the times to show it at, and the distance s between its frames.

    "keyframes" are 16 frames from the clip's start, of every motion, "turning" those of the motions that are learned
    last, "spinning" those of turned shapes alone. "plain" ones stand still and upright, and their captions say nothing
    of that, so that a prompt without a motion is known; "tilted" ones are still at any angle, also in colours that
    never spin, so that turned shapes are known in them. "windows" are 33 frames s ∈ {1, ..., 12} apart, inside the
    clip where they fit, with fast motions drawn more often. `shape` pins the shape.
    """
    pinned = {} if shape is None else {"shape": shape}
    if kind in KEYFRAME_MOTIONS:
        chosen = KEYFRAME_MOTIONS[kind]
        fixed = {"motion": str(rng.choice(chosen))} if len(chosen) < len(MOTIONS) else {}
        return sample_scene(rng, held_out, **fixed, **pinned), keyframe_times(), int(keyframe_times()[1])
    if kind != "windows":
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
    motion = {"motion": str(rng.choice(FAST_MOTIONS))} if rng.random() < 0.4 else {}
    scene = sample_scene(rng, held_out, **motion, **pinned)
    # Small s, the ones that sampling uses, are drawn more often than the rest.
    skip = int(rng.integers(1, 5)) if rng.random() < 0.5 else int(rng.integers(1, MAX_SKIP + 1))
    room = CLIP_LENGTH - skip * (WINDOW - 1)
    start = rng.uniform(min(0.0, room), max(0.0, room))
    return scene, start + skip * np.arange(WINDOW), skip


def _scenes(
    kind: str, count: int, seed: int, held_out: bool | None, shape: str | None = None
) -> list[tuple[Scene, np.ndarray, int]]:
    rng = np.random.default_rng(seed)
    return [draw_clip(rng, kind, held_out, shape) for _ in range(count)]


@torch.inference_mode()
def encode_clips(
    movq: MoVQ, kind: str, count: int, seed: int, held_out: bool | None, size: int, shape: str | None = None
) -> Clips:
    """Draw and encode `count` clips, all of one `shape` where it is given. Raises ValueError for an unknown one, and
    for no clips."""
    check_drawn(count, seed)
    if shape is not None and shape not in (*SHAPES, *NEW_SHAPES):
        raise ValueError(f"shape must be one of {', '.join((*SHAPES, *NEW_SHAPES))}; got {shape!r}")
    drawn = _scenes(kind, count, seed, held_out, shape)
    latents = []
    for scene, times, _ in tqdm(drawn, desc=f"encoding {kind}", mininterval=10, disable=count < 500):
        latents.append(movq.encode(to_pixels(render(scene, times, size))[None]).half())
    return _clips(drawn, torch.cat(latents))


def check_drawn(count: int, seed: int) -> None:
    """Raise ValueError unless a number of clips is at least 1, and the seed of their scenes at least 0."""
    for name, value, least in (("count", count, 1), ("seed", seed, 0)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}; got {value}")


def _clips(drawn: list[tuple[Scene, np.ndarray, int]], latents: Tensor) -> Clips:
    times = torch.from_numpy(np.stack([times for _, times, _ in drawn]))
    return Clips([scene for scene, _, _ in drawn], latents, times, torch.tensor([skip for _, _, skip in drawn]))


def load_clips(paths: list[Path]) -> Clips:
    """Read files that `prepare` wrote, joined. Raises FileNotFoundError that says how to make a missing one."""
    parts = [_load(path) for path in paths]
    return Clips(
        [scene for part in parts for scene in part.scenes],
        *(torch.cat([getattr(part, name) for part in parts]) for name in ("latents", "times", "skip_frames")),
    )


def _load(path: Path) -> Clips:
    if not Path(path).is_file():
        raise FileNotFoundError(f"no latents at {path}: prepare them with `python -m training.latents`")
    try:
        with safe_open(str(path), framework="pt") as file:
            settings = json.loads(file.metadata()["settings"])
            latents = file.get_tensor("latents")
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"clips must name files that training.latents wrote; {path} is none ({error})") from error
    return _clips(_scenes(settings["kind"], settings["count"], settings["seed"], settings["held_out"]), latents)
