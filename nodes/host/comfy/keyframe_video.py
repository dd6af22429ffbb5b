"""Keyframes that are done, as a small video on the node that made them: drawn from latents, without a decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from ....fusionframes_core.files import atomic_path

OUTPUT = "fusionframes_keyframes"  # of web/previews.js
MOST_FRAMES = 64  # of a longer video that many are shown, evenly spaced
QUALITY = 80  # of WebP, of 100


def keyframe_video(model: Any, latents: Tensor, fps: float) -> dict[str, Any]:
    """What a node returns as its `ui`: an animated WebP of the first video of latents (B, 4, T, h, w), at its size and
    `fps`, in ComfyUI's temporary folder.
    """
    count, factor = latents.shape[2], model.model.pixels_per_latent
    kept = torch.linspace(0, count - 1, min(count, MOST_FRAMES)).round().long()
    frames = model.model.latent_format.colours.frames(latents[0][:, kept.to(latents.device)])
    frames = functional.interpolate(frames, scale_factor=factor, mode="bicubic").clamp(0, 1)
    pictures = [Image.fromarray(frame) for frame in (frames.movedim(1, -1) * 255).round().to(torch.uint8).numpy()]
    width, height = pictures[0].size
    caption = f"{width}×{height} pixels, {count} keyframes, {fps:g} a second"
    return {OUTPUT: [{**_written(pictures, round(1000 * count / fps / len(pictures))), "caption": caption}]}


def _written(pictures: list[Image.Image], milliseconds: int) -> dict[str, str]:
    """Write them into ComfyUI's temporary folder; where they are, as ComfyUI's /view wants to know it."""
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
        "FusionFrames/keyframes", folder_paths.get_temp_directory(), *pictures[0].size
    )
    file = Path(folder) / f"{name}_{counter:05}_.webp"
    with atomic_path(file) as partial:
        first, *others = pictures
        first.save(partial, "WEBP", save_all=True, append_images=others, duration=milliseconds, loop=0, quality=QUALITY)
    return {"filename": file.name, "subfolder": subfolder, "type": "temp"}
