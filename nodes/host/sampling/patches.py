"""Patches on a keyframe MODEL: videos longer than it was trained for, and videos that loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.context_windows as windows
import torch
from torch import Tensor

HANDLER, WRAPPER = "context_handler", "model_function_wrapper"
GOLDEN = (math.sqrt(5) - 1) / 2


class _Windows(windows.IndexListContextHandler):
    """ComfyUI's context windows, which also cut the masks over time that Prompt Schedule makes."""

    def get_resized_cond(self, cond_in: Any, x_in: Tensor, window: Any, device: Any = None) -> Any:
        if cond_in is None:
            return None
        masks = [entry.get("mask") for entry in cond_in]
        # A stock mask is one picture for all frames: (1, 1, h, w), where a schedule's is (1, T, h, w).
        cut = [
            mask if mask is None or mask.shape[1] != x_in.shape[2] else window.get_tensor(mask, device, dim=1)
            for mask in masks
        ]
        seen = [(entry, mask) for entry, mask in zip(cond_in, cut, strict=True) if mask is None or bool(mask.any())]
        resized = super().get_resized_cond([entry for entry, _ in seen], x_in, window, device)
        for entry, (_, mask) in zip(resized, seen, strict=True):
            if mask is not None:
                entry["mask"] = mask
        return resized


def with_windows(model: Any, length: int, overlap: int) -> Any:
    """A MODEL that samples any number of frames in windows of `length` that share `overlap` frames."""
    if not 0 < overlap < length:
        raise ValueError(f"context_overlap must be at least 1 and less than context_length ({length}); got {overlap}")
    if HANDLER in model.model_options:
        raise ValueError("the model already samples in context windows; use one node for them")
    if isinstance(model.model_options.get(WRAPPER), _Turned):
        raise ValueError("a looping model cannot sample in windows too: use FusionFrames Loop or Long Video")
    patched = model.clone()
    options: dict[str, Any] = {"context_length": length, "context_overlap": overlap, "dim": 2}
    if "causal_window_fix" in windows.IndexListContextHandler.__init__.__code__.co_varnames:
        options["causal_window_fix"] = False  # 0.27: a frame before each window, for causal models
    patched.model_options[HANDLER] = _Windows(
        windows.get_matching_context_schedule(windows.ContextSchedules.STATIC_STANDARD),
        windows.get_matching_fuse_method(windows.ContextFuseMethods.OVERLAP_LINEAR),
        **options,
    )
    windows.create_prepare_sampling_wrapper(patched)
    return patched


def with_loop(model: Any) -> Any:
    """A MODEL whose last frame leads into its first.

    In each step the video is turned as a ring by another number of frames before the network sees it, so that no place
    of the ring is its end.
    """
    if HANDLER in model.model_options:
        raise ValueError("a model that samples in windows cannot loop too: use FusionFrames Loop or Long Video")
    patched, earlier = model.clone(), model.model_options.get(WRAPPER)
    patched.set_model_unet_function_wrapper(_Turned(earlier.inner if isinstance(earlier, _Turned) else earlier))
    return patched


@dataclass(frozen=True)
class _Turned:
    """A model function wrapper that shows the network the video turned; `inner` is one that the MODEL had before."""

    inner: Callable[[Any, dict[str, Any]], Tensor] | None

    def __call__(self, apply_model: Any, arguments: dict[str, Any]) -> Tensor:
        x, t, conditions = arguments["input"], arguments["timestep"], arguments["c"]
        shift = _shift(conditions["transformer_options"].get("sample_sigmas"), t, x.shape[2])
        if "video" in conditions:  # what a model sees of single frames turns with them
            conditions = {**conditions, "video": conditions["video"].roll(shift, dims=2)}
        turned = x.roll(shift, dims=2)
        if self.inner is None:
            return apply_model(turned, t, **conditions).roll(-shift, dims=2)
        return self.inner(apply_model, {**arguments, "input": turned, "c": conditions}).roll(-shift, dims=2)


def _shift(sigmas: Tensor | None, sigma: Tensor, num_frames: int) -> int:
    """How far this step turns the ring: golden-ratio steps leave no preferred seam."""
    if sigmas is None:
        return 0
    step = int(torch.argmin((sigmas.float() - sigma[0].float().to(sigmas.device)).abs()))
    return round(num_frames * ((step * GOLDEN) % 1.0)) % num_frames
