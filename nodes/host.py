"""Everything the pack asks of ComfyUI: devices, model folders, progress, previews and Cancel.

The only file that imports comfy.* or folder_paths, so that a ComfyUI update is met in one place. The bridges that turn
our networks into ComfyUI's MODEL, CLIP and VAE belong here too (or in a host/ folder once this file outgrows itself).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path, PurePath
from typing import Any

import comfy.model_management as management
import comfy.utils
import folder_paths
import torch
from comfy_api.latest import InputImpl, Types
from PIL import Image
from torch import Tensor

from ..fusionframes_core.models.text_encoder import TextContext
from ..fusionframes_core.pipeline import FusionFramesPipeline
from ..fusionframes_core.preview import LatentColours, fit_latent_colours, preview_sheet

BUNDLED = "tiny"
MODEL_FOLDERS = "diffusion_models"
MARKER = "keyframe.safetensors"  # the file that makes a folder a FusionFrames model
PRECISIONS = {"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PREVIEW_SIZE = 512  # longest side in pixels

Progress = Callable[[int, int, Tensor], None]


def model_names() -> list[str]:
    """The bundled model and every model folder inside ComfyUI's diffusion_models folders (extra paths included)."""
    files = map(PurePath, folder_paths.get_filename_list(MODEL_FOLDERS))
    folders = {str(file.parent) for file in files if file.name == MARKER and file.parent.name}
    return [BUNDLED, *sorted(folders - {BUNDLED})]


def model_location(name: str) -> str:
    """What `from_pretrained` takes for a name of `model_names`. Raises ValueError when there is no such model."""
    if name == BUNDLED:
        return BUNDLED
    file = folder_paths.get_full_path(MODEL_FOLDERS, str(PurePath(name) / MARKER))
    if file is None:
        where = ", ".join(folder_paths.get_folder_paths(MODEL_FOLDERS))
        raise ValueError(
            f"model_name {name!r} is not there: put its folder (with {MARKER}) into {where}, or take 'tiny'"
        )
    return str(Path(file).parent)


def sentence(check: Callable[..., Any], *values: Any, **named: Any) -> bool | str:
    """Run a check for ComfyUI's validate_inputs: True, or the sentence of the ValueError that it raised."""
    try:
        check(*values, **named)
    except ValueError as error:
        return str(error)
    return True


class HostedModel:
    """A pipeline that visits ComfyUI's device while a node runs and rests on its offload device between nodes."""

    def __init__(self, pipeline: FusionFramesPipeline) -> None:
        self.pipeline = pipeline
        self._colours: LatentColours | None = None
        self._busy = threading.RLock()

    @contextmanager
    def on_device(self) -> Iterator[FusionFramesPipeline]:
        """The pipeline on the compute device, other models moved out of its way."""
        device = management.get_torch_device()
        with self._busy:
            management.free_memory(self.pipeline.num_bytes, device)
            try:
                yield self.pipeline.to(device)
            finally:
                self.pipeline.to(management.unet_offload_device())

    def progress(self) -> Progress:
        """A callback(step, total, x0) for one long loop: progress bar, preview of every frame, and Cancel.

        Raises ComfyUI's InterruptProcessingException at the first step after Cancel.
        """
        bar = comfy.utils.ProgressBar(1)

        def report(step: int, total: int, x0: Tensor) -> None:
            management.throw_exception_if_processing_interrupted()
            bar.update_absolute(step, total, ("JPEG", self._preview(x0), PREVIEW_SIZE))

        return report

    def _preview(self, x0: Tensor) -> Image.Image:
        if self._colours is None:
            self._colours = fit_latent_colours(self.pipeline.movq)
        return Image.fromarray(preview_sheet(x0[0], self._colours, PREVIEW_SIZE).numpy())


_loaded: dict[tuple[str, str], HostedModel] = {}


def load_model(name: str, precision: str) -> HostedModel:
    """The named model, from memory when it was the last one asked for. Raises ValueError when it cannot be loaded."""
    location = model_location(name)
    if (name, precision) not in _loaded:
        _loaded.clear()
        dtype = PRECISIONS[precision] or _device_dtype()
        pipeline = FusionFramesPipeline.from_pretrained(location, dtype=dtype, device="cpu")
        _loaded[name, precision] = HostedModel(pipeline)
    return _loaded[name, precision]


def _device_dtype() -> torch.dtype:
    device = management.get_torch_device()
    if management.should_use_bf16(device):
        return torch.bfloat16
    return torch.float16 if management.should_use_fp16(device) else torch.float32


def to_intermediate(value: Tensor | TextContext) -> Any:
    """A result as float32 where ComfyUI keeps what travels between nodes."""
    return value.to(management.intermediate_device(), torch.float32)


def to_images(pixels: Tensor) -> Tensor:
    """Pixels (B, 3, T, H, W) in [−1, 1] as ComfyUI's IMAGE: (B·T, H, W, 3) in [0, 1], videos one after another."""
    images = pixels.permute(0, 2, 3, 4, 1).flatten(0, 1)
    return to_intermediate(images.float().add(1).div(2).clamp(0, 1))


def to_video(images: Tensor, fps: float) -> Any:
    """IMAGE frames as ComfyUI's VIDEO at `fps` frames per second."""
    rate = Fraction(fps).limit_denominator(1001)
    return InputImpl.VideoFromComponents(Types.VideoComponents(images=images, frame_rate=rate))
