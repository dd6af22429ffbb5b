"""Keyframes that are given: held in their places while the others are drawn around them.

In each step a held frame is shown to the network as itself at the step's noise level, and its clean prediction is
itself, as in inpainting by noised originals (Lugmayr et al., arXiv 2201.09865, without the resampling). A guide may be
let go before the last step, and frames between guides may begin as the blend of the guides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PULL = 0.4  # where nothing else is asked for: of nodes and of the command line


@dataclass(frozen=True)
class Guide:
    """A given keyframe.

    `latent` (1 or B, 4, 1, h, w); `index` is its place among the keyframes, from the last one backwards if negative;
    `strength` is the share of the steps for which it is held: 1 keeps it exactly, less lets it change in the last ones;
    `pull` is the share for which the frames beside it are held at the blend of the guides around them, less the further
    they are.
    """

    latent: Tensor
    index: int
    strength: float = 1.0
    pull: float = 0.0

    def __post_init__(self) -> None:
        for name in ("strength", "pull"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= 1):
                raise ValueError(f"{name} of a guide must be from 0 to 1; got {value!r}")


@dataclass(frozen=True)
class HeldFrames:
    """What every frame is held at, (B, 4, T, h, w), and for which share of the steps, (T,)."""

    latents: Tensor
    shares: Tensor

    def mask(self, step: int, total: int) -> Tensor:
        """(1, 1, T, 1, 1) bool: which frames are held in a step, counted from 0, of `total`."""
        return held_in(self.shares, step, total).reshape(1, 1, -1, 1, 1)


def held_in(shares: Tensor, step: int, total: int) -> Tensor:
    """Whether what is held for these shares of the steps is held in this one."""
    return shares * total > step + 1e-6


def hold_frames(guides: Sequence[Guide], num_frames: int) -> HeldFrames:
    """Frames held by guides, of which the last of two in one place counts.

    Between two guides a frame's blend is linear in time, and the nearer one pulls it, down to nothing halfway: held at
    a blend for longer, things fade instead of move. Before the first and after the last guide it is that one's.
    Raises ValueError for a place that is not there, and for latents of different sizes.
    """
    placed = {place_of(guide, num_frames): guide for guide in guides}
    first = next(iter(placed.values()))
    shape = torch.broadcast_shapes(*(guide.latent.shape[:1] for guide in placed.values()))
    if any(guide.latent.shape[1:] != first.latent.shape[1:] for guide in placed.values()):
        sizes = ", ".join(str(tuple(guide.latent.shape)) for guide in placed.values())
        raise ValueError(f"guides must have latents of one size; got {sizes}")
    places = sorted(placed)
    latents, shares = [], torch.zeros(num_frames)
    for frame in range(num_frames):
        before = max((place for place in places if place <= frame), default=places[0])
        after = min((place for place in places if place >= frame), default=places[-1])
        weight = 0.0 if before == after else (frame - before) / (after - before)
        ends = placed[before], placed[after]
        blend = torch.lerp(ends[0].latent.float(), ends[1].latent.float(), weight)
        latents.append(blend.expand(*shape, -1, -1, -1, -1))
        nearest = min(places, key=lambda place: abs(place - frame))
        if frame in placed:
            shares[frame] = placed[frame].strength
        else:
            reach = _reach(nearest, frame, places, num_frames)
            shares[frame] = placed[nearest].pull * (1 - abs(frame - nearest) / reach)
    return HeldFrames(torch.cat(latents, dim=2), shares)


def _reach(place: int, frame: int, places: Sequence[int], num_frames: int) -> float:
    """How far a guide pulls, towards a frame: half of the way to the next guide, or beyond the last frame."""
    others = [other for other in places if (other > place) == (frame > place) and other != place]
    if others:
        return min(abs(other - place) for other in others) / 2 + 0.5
    return float(num_frames - place if frame > place else place + 1)


def place_of(guide: Guide, num_frames: int) -> int:
    """A guide's place counted from the first frame. Raises ValueError unless there are so many."""
    if not -num_frames <= guide.index < num_frames:
        raise ValueError(
            f"index of a guide must be from 0 to {num_frames - 1}, or from {-num_frames} to -1 counted from the last "
            f"keyframe; got {guide.index}"
        )
    return guide.index % num_frames
