"""MoVQ as ComfyUI's VAE. Time is cut into overlapping chunks inside `decode`, so that memory is that of one chunk."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import comfy.model_management as management
import comfy.ops
import comfy.sd
import comfy.utils
import torch
from torch import Tensor

from ....fusionframes_core.config import MoVQConfig
from ....fusionframes_core.models.movq.banded_decode import BandedDecoder
from ....fusionframes_core.models.movq.chunked_decode import BLENDED, decode_chunked
from ....fusionframes_core.models.movq.decode_plan import DecodePlan
from ....fusionframes_core.models.movq.movq import Level, Middle, MoVQ
from .attention_patches import check_cancel
from .operations import hosted
from .patchers import patcher_class
from .vae_memory import decode_estimate, encode_estimate, plan_decoding, plan_encoding


class VideoAutoencoder(MoVQ):
    """MoVQ with the signatures that comfy.sd.VAE calls."""

    comfy_has_chunked_io = True  # pixels may stay where they are, and chunks are decoded into their place in the video

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for part in self.modules():
            if isinstance(part, (Level, Middle)):
                part.register_forward_pre_hook(_check_cancel)

    def decode_output_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The pixels' shape of latents (B, 4, T, h, w) or (N, 4, h, w)."""
        return (shape[0], 3, *shape[2:-2], *(side * self.factor for side in shape[-2:]))

    def encode(self, pixels: Tensor, device: Any = None) -> Tensor:
        """Pixels (B, 3, T, H, W), or images (N, 3, H, W), in [−1, 1]: (B, 4, T, h, w), computed on `device`.

        As many frames at once as the free memory allows. Raises ValueError when that is none.
        """
        video = pixels if pixels.ndim == 5 else pixels[:, :, None]
        encoded = []
        place = torch.device(device or video.device)
        for chunk in video.split(plan_encoding(self, video, place), dim=2):
            management.throw_exception_if_processing_interrupted()
            encoded.append(MoVQ.encode(self, chunk.to(place)))
        return torch.cat(encoded, dim=2)

    def decode(
        self,
        latents: Tensor,
        temporal: bool = True,
        chunk: int | None = None,
        overlap: int | None = None,
        windows: str = BLENDED,
        report: Callable[[int, int], None] | None = None,
        planned: Callable[[DecodePlan], None] | None = None,
        output_buffer: Tensor | None = None,
    ) -> Tensor:
        """Latents (B, 4, T, h, w), or stills (N, 4, h, w), to pixels of the same kind, in `output_buffer` if given.

        One after the other, each as the free memory allows: `planned` is given the plan, and `report(done, total)`
        follows every chunk. `chunk` None is as many frames as the decoder was trained with, or fewer where they do not
        fit; `overlap` None a quarter of that, at most 4. Raises ValueError when not even bands fit.
        """
        pixels = latents.new_empty(self.decode_output_shape(latents.shape)) if output_buffer is None else output_buffer
        videos, places = (kind if latents.ndim == 5 else kind[:, :, None] for kind in (latents, pixels))
        for video, place in zip(videos.split(1), places.split(1), strict=True):
            plan = plan_decoding(self, video, chunk, windows)
            if overlap is not None:
                plan = replace(plan, overlap=min(overlap, plan.chunk - 1))
            if planned is not None:
                planned(plan)
            decoder = BandedDecoder(self, temporal) if plan.banded else _Chunks(self, temporal)
            cut = (plan.chunk, plan.overlap)
            decode_chunked(decoder, video, *cut, report or _check_cancel, output=place, windows=windows)
        return pixels


class _Chunks:
    """What decode_chunked asks of a decoder, with the temporal layers on or off."""

    def __init__(self, movq: VideoAutoencoder, temporal: bool) -> None:
        self.movq, self.temporal, self.factor = movq, temporal, movq.factor
        self.frames_are_independent = movq.frames_are_independent or not temporal

    def decode(self, latents: Tensor) -> Tensor:
        return MoVQ.decode(self.movq, latents, temporal=self.temporal)


def _check_cancel(*_: Any) -> None:
    """Between chunks, and between the levels of a network."""
    check_cancel()


def make_vae(config: MoVQConfig, weights: Mapping[str, Tensor], dtype: torch.dtype | None, dynamic: bool) -> Any:
    """A VAE from a model folder's MoVQ weights; `dtype` None: as ComfyUI chooses for the device."""
    with _without_warning():
        vae = comfy.sd.VAE(sd={})  # every default; it then stops for want of weights
    vae.device = management.vae_device()
    vae.working_dtypes = [torch.bfloat16, torch.float32]  # the official code's is float32; fp16 only when asked for
    vae.vae_dtype = dtype or management.vae_dtype(vae.device, vae.working_dtypes)
    vae.output_device = management.intermediate_device()
    movq = VideoAutoencoder(config, hosted(comfy.ops.disable_weight_init), device="meta", dtype=vae.vae_dtype).eval()
    movq.load_state_dict({key: value.to(vae.vae_dtype) for key, value in weights.items()}, strict=True, assign=True)
    movq.requires_grad_(False)
    vae.first_stage_model, factor = movq, movq.factor
    vae.latent_channels, vae.latent_dim, vae.output_channels = config.latent_channels, 3, 3
    vae.upscale_ratio = vae.downscale_ratio = (_same, factor, factor)
    vae.upscale_index_formula = vae.downscale_index_formula = (1, factor, factor)
    vae.memory_used_encode = partial(encode_estimate, movq, vae.device)
    vae.memory_used_decode = partial(decode_estimate, movq, vae.device)
    kind = patcher_class(dynamic)
    vae.patcher = kind(movq, load_device=vae.device, offload_device=management.vae_offload_device())
    vae.model_size()
    return vae


def _same(length: int) -> int:
    return length


@contextmanager
def _without_warning() -> Iterator[None]:
    """ComfyUI warns that the VAE it was asked to begin with has no weights; that is meant."""

    def keep(record: logging.LogRecord) -> bool:
        return "No VAE weights" not in record.getMessage()

    logging.getLogger().addFilter(keep)
    try:
        yield
    finally:
        logging.getLogger().removeFilter(keep)
