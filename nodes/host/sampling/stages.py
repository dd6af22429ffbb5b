"""What the nodes ask for, in one call each: sampling, interpolating, decoding and encoding with ComfyUI's types."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import comfy.model_management as management
import comfy.utils
import torch
from comfy_api.latest import InputImpl, Types
from torch import Tensor

from ....fusionframes_core.errors import require_finite
from ....fusionframes_core.media.frame_choice import regroup
from ....fusionframes_core.models.movq.chunked_decode import BLENDED, OFFICIAL
from ....fusionframes_core.models.movq.decode_plan import DecodePlan
from ....fusionframes_core.sampling.options import InterpolationOptions
from ..comfy.memory import show
from ..model.networks import LATENT_CHANNELS
from ..model.vae_memory import asking_for
from . import checks
from .conditionings import ConditioningPair, interpolation_conditionings, interpolation_latents
from .model_values import FACTOR, OWN_WEIGHT, VideoShape
from .sampling_options import HostSamplingOptions
from .sampling_plan import plan

ENCODE_PIECE = 64  # frames, a multiple of what the encoder takes at once


def empty_latents(batch: int, shape: VideoShape) -> Tensor:
    """Zeros (B, 4, T, h, w)."""
    size = (batch, LATENT_CHANNELS, shape.num_frames, shape.height // FACTOR, shape.width // FACTOR)
    return torch.zeros(size, device=management.intermediate_device())


def keyframe_rate(model: Any) -> float:
    """Frames per second of a model's keyframes."""
    return model.model.config.fps


def sample_keyframes(
    model: Any,
    conditionings: ConditioningPair,
    samples: Tensor,
    options: HostSamplingOptions,
    mask: Tensor | None = None,
) -> Tensor:
    """Keyframes in the place of latents, empty or of a video that is changed as far as the options' `denoise` says.

    `mask` is a LATENT's: where they are changed. Raises ValueError for what does not fit, before the first step.
    """
    checks.require_size(model, samples)
    checks.require_schedule(conditionings.positive, samples)
    return plan(model, conditionings, options).sample(samples, mask)


def interpolate(
    model: Any, frames: Tensor, text: Any | None, options: InterpolationOptions, sampling: HostSamplingOptions
) -> Tensor:
    """One pass over frames (B, 4, T, h, w): 4T − 3 of them. `text` is for models whose interpolation reads it.

    Raises ValueError for what does not fit, before the first step.
    """
    checks.require_latents(frames, frames=2)
    checks.require_size(model, frames)
    conditionings = interpolation_conditionings(text, options)
    return plan(model, conditionings, sampling).sample(interpolation_latents(frames))


def interpolate_loop(
    model: Any, frames: Tensor, text: Any | None, options: InterpolationOptions, sampling: HostSamplingOptions
) -> Tensor:
    """The same for a video that repeats: 4T frames, the last three of them between its last frame and its first."""
    ring = torch.cat([frames, frames[:, :, :1]], dim=2) if frames.ndim == 5 else frames
    return interpolate(model, ring, text, options, sampling)[:, :, :-1]


@dataclass(frozen=True)
class DecodeWindows:
    """Into what a video is cut to be decoded: by a name of DECODE_WINDOWS, of at most `chunk` frames.

    `chunk` None is as many as the free memory allows, up to those that the decoder was trained with; `overlap` None is
    a quarter of a chunk, at most 4.
    """

    name: str
    chunk: int | None
    overlap: int | None

    def show(self, plan: DecodePlan) -> None:
        """Say on the node what was chosen for it."""
        if None not in (self.chunk, self.overlap) and (self == STILLS or not plan.banded):
            return
        chosen = f"temporal_size {plan.chunk}, temporal_overlap {plan.overlap}"
        words = f"official windows of {plan.chunk} frames" if self.name == OFFICIAL else chosen
        show(f"{words}{', in bands to fit the free memory' if plan.banded else ''}")


STILLS = DecodeWindows(BLENDED, 1, 0)


def decode_windows(chunk: int, overlap: int, name: str = BLENDED) -> DecodeWindows:
    """What a node's inputs ask for: chunk 0 and overlap −1 are chosen for it."""
    return DecodeWindows(name, chunk or None, None if overlap == OWN_WEIGHT else overlap)


def decode(vae: Any, latents: Tensor, temporal: bool, windows: DecodeWindows) -> Tensor:
    """Latents (B, 4, T, h, w) to IMAGE (B·T, H, W, 3), with progress, and Cancel after every chunk.

    Raises ValueError when not even one frame fits into the free memory, or not as many as are asked for.
    """
    bar = comfy.utils.ProgressBar(latents.shape[2])

    def report(done: int, total: int) -> None:
        management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total)

    asked = {"temporal": temporal, "chunk": windows.chunk, "overlap": windows.overlap, "windows": windows.name}
    told = {"report": report, "planned": windows.show}
    frames = asking_for(vae, windows.chunk, windows.name).decode(latents, vae_options=asked | told).flatten(0, 1)
    return require_finite("decode", frames, vae.vae_dtype)


def encode_frames(vae: Any, pieces: Iterator[Tensor], width: int, height: int) -> Tensor:
    """IMAGE frames in pieces (N, H, W, 3), scaled and cropped to a size (0: as they are), to latents (1, 4, T, h, w).

    Raises ValueError for a size that is no multiple of the decoder's factor, and where there is no frame.
    """
    latents = [vae.encode(_scaled(piece, width, height)) for piece in regroup(pieces, ENCODE_PIECE)]
    if not latents:
        raise ValueError("no frame is left of the video: lower skip_first_frames")
    return torch.cat(latents, dim=2)


def _scaled(frames: Tensor, width: int, height: int) -> Tensor:
    size = (width or frames.shape[2], height or frames.shape[1])
    if size != (frames.shape[2], frames.shape[1]):
        frames = comfy.utils.common_upscale(frames.movedim(-1, 1), *size, "bicubic", "center").movedim(1, -1)
    if any(side % FACTOR for side in size):
        raise ValueError(
            f"frames must be multiples of {FACTOR} pixels wide and high; these are {size[0]}×{size[1]}: set width and "
            "height"
        )
    return frames[..., :3]


def to_video(images: Tensor, fps: float, audio: Any | None = None) -> Any:
    """IMAGE frames as ComfyUI's VIDEO at `fps` frames per second, with an AUDIO."""
    rate = Fraction(fps).limit_denominator(1001)
    return InputImpl.VideoFromComponents(Types.VideoComponents(images=images, frame_rate=rate, audio=audio))
