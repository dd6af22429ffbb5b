"""Given keyframes on a MODEL, held in their places by whichever sampler samples it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from comfy.sampler_helpers import prepare_mask
from torch import Tensor

from ....fusionframes_core.media.frames import fit_image
from ....fusionframes_core.sampling.guides import Guide, HeldFrames, held_in, hold_frames, place_of
from .model_values import FACTOR

GUIDES = "fusionframes_guides"  # key of a MODEL's options
MASK_FUNCTION = "denoise_mask_function"  # ComfyUI's: the mask of a step


def encode_guides(vae: Any, images: Tensor, size: tuple[int, int]) -> Tensor:
    """The latents (1, 4, N, h, w) of an IMAGE's N pictures, scaled and cropped to (height, width)."""
    pixels = fit_image(images[..., :3].movedim(-1, 1).float() * 2 - 1, size)
    return vae.encode((pixels.movedim(1, -1) + 1) / 2).float()


def with_guides(model: Any, latents: Tensor, index: int, strength: float, pull: float) -> Any:
    """A MODEL that is given each frame of latents (B, 4, N, h, w), from the place `index` on.

    A negative `index` is the last one's place, counted from the end. Raises ValueError as Guide does.
    """
    count = latents.shape[2]
    first = index - count + 1 if index < 0 else index
    guides = [
        Guide(frame, first + place, strength, pull) for place, frame in enumerate(latents.float().split(1, dim=2))
    ]
    patched = model.clone()
    patched.model_options[GUIDES] = [*model.model_options.get(GUIDES, ()), *guides]
    return patched


@dataclass(frozen=True)
class Sampled:
    """What a sampling begins with: noise and latents (B, 4, T, h, w), and the mask of where these change, if any."""

    noise: Tensor
    latents: Tensor
    mask: Tensor | None


def hold(model_options: dict[str, Any], begun: Sampled) -> Sampled:
    """What sampling begins with, with a MODEL's guides in their places, which `model_options` then holds in each step.

    Where a mask keeps a video, frames that are only pulled keep it too. Raises ValueError for guides that do not fit
    the video, and for pulled frames where the noise is another sampler's: what they would begin with is not known.
    """
    guides = model_options.get(GUIDES)
    if not guides:
        return begun
    latents = begun.latents
    _require_size(guides, latents)
    count = latents.shape[2]
    held = hold_frames(guides, count)
    given = torch.zeros(count, dtype=torch.bool)
    given[[place_of(guide, count) for guide in guides]] = True
    shown, pulled = (_frames(chosen & (held.shares > 0), latents.device) for chosen in (given, ~given))
    if bool(pulled.any()) and not bool(begun.noise.any()):
        raise ValueError("pull of Add Guide must be 0 for a sampler that goes on from another without noise of its own")
    mask = torch.ones_like(latents) if begun.mask is None else begun.mask
    if begun.mask is not None:
        pulled = pulled & (prepare_mask(begun.mask, latents.shape, latents.device) > 0)
    model_options[MASK_FUNCTION] = Holding(held, model_options.get(MASK_FUNCTION))
    return replace(begun, latents=torch.where(shown | pulled, held.latents.to(latents), latents), mask=mask)


def _frames(chosen: Tensor, device: torch.device) -> Tensor:
    return chosen.reshape(1, 1, -1, 1, 1).to(device)


@dataclass(frozen=True)
class Holding:
    """The mask of a step: `other`'s, or the sampling's own, without the frames that are held in it."""

    held: HeldFrames
    other: Callable[..., Tensor] | None

    def __call__(self, sigma: Tensor, mask: Tensor, extra_options: dict[str, Any] | None = None) -> Tensor:
        if self.other is not None:
            mask = self.other(sigma, mask, extra_options=extra_options)
        sigmas = (extra_options or {})["sigmas"]
        step = int((sigmas[:-1] > sigma.flatten()[0] * (1 + 1e-4)).sum())
        free = ~held_in(self.held.shares, step, len(sigmas) - 1)
        return mask * free.reshape(1, 1, -1, 1, 1).to(mask)


def _require_size(guides: list[Guide], latents: Tensor) -> None:
    wanted = tuple(latents.shape[-2:])
    for guide in guides:
        size = tuple(guide.latent.shape[-2:])
        if size != wanted:
            have, need = (f"{side[1] * FACTOR}×{side[0] * FACTOR}" for side in (size, wanted))
            raise ValueError(
                f"a guide is {have} pixels and the video {need}: set width and height of Add Guide to the video's"
            )
        if guide.latent.shape[0] not in (1, latents.shape[0]):
            raise ValueError(
                f"a guide must have latents of 1 video or of all {latents.shape[0]}; got {guide.latent.shape[0]}"
            )
