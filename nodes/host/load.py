"""From a model folder to ComfyUI's MODEL, CLIP and VAE.

Networks are built without memory and take the file's tensors as they are mapped; from then on their memory is
ComfyUI's to manage.
"""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import comfy.model_management as management
import comfy.utils
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...fusionframes_core.checkpoints import CONFIG_FILE, TOKENIZER_FILE, CheckpointError, check_weights, load_config
from ...fusionframes_core.config import ModelConfig
from ...fusionframes_core.models.movq import MoVQ
from ...fusionframes_core.preview import LatentColours, fit_latent_colours
from .clip import make_clip
from .files import model_location
from .models import Hosting, InterpolationModel, KeyframeModel, VideoModel
from .patchers import patcher_class
from .preview import VideoLatents
from .sampling import align_contexts, limit_prediction
from .vae import make_vae

PRECISIONS = {"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MODELS: dict[str, type[Any]] = {"keyframe": KeyframeModel, "interpolation": InterpolationModel}
WRAPPERS = {WrappersMP.PREDICT_NOISE: limit_prediction, WrappersMP.OUTER_SAMPLE: align_contexts}


def load_parts(name: str, precision: str) -> tuple[Any, Any, Any, Any]:
    """(keyframe MODEL, interpolation MODEL, CLIP, VAE) of a model. Raises ValueError when it cannot be loaded."""
    folder = model_location(name)
    unets = [load_unet(folder, part, precision) for part in MODELS]
    return unets[0], unets[1], load_clip(folder, precision), load_vae(folder, precision)


def load_unet(folder: Path, part: str, precision: str, disable_dynamic: bool = False) -> Any:
    """One of MODELS as a ModelPatcher."""
    config, weights = _config(folder), _weights(folder, part)
    device = management.get_torch_device()
    count = sum(weight.numel() for weight in weights.values())
    kind = PRECISIONS[precision] or management.unet_dtype(device=device, model_params=count)
    null = _weights(folder, "text_encoder")["null_embedding"].float().clone()
    cast = management.unet_manual_cast(kind, device)
    model: VideoModel = MODELS[part](Hosting(config, null, VideoLatents(partial(_colours, folder)), kind, cast))
    _assign(model.diffusion_model, weights, folder / f"{part}.safetensors", kind)
    make = patcher_class(not disable_dynamic)
    patcher = make(model, load_device=device, offload_device=management.unet_offload_device())
    patcher.cached_patcher_init = (load_unet, (folder, part, precision))
    for place, wrapper in WRAPPERS.items():
        patcher.add_wrapper_with_key(place, "fusionframes", wrapper)
    return patcher


def load_clip(folder: Path, precision: str, disable_dynamic: bool = False) -> Any:
    """The text encoder. ComfyUI's T5 computes in fp32 whatever its weights are, so that fp16 cannot overflow."""
    config, weights = _config(folder), _weights(folder, "text_encoder")
    kind = PRECISIONS[precision] or management.text_encoder_dtype(management.text_encoder_device())
    flags = {"disable_dynamic": True} if disable_dynamic else {}
    clip = make_clip(config.text, folder / TOKENIZER_FILE, weights, {"dtype": kind}, **flags)
    clip.patcher.cached_patcher_init = (_clip_patcher, (folder, precision))
    return clip


def load_vae(folder: Path, precision: str, disable_dynamic: bool = False) -> Any:
    """The decoder (and encoder)."""
    config, weights = _config(folder), _weights(folder, "movq")
    check_weights(MoVQ(config.movq, device="meta"), weights, str(folder / "movq.safetensors"))
    vae = make_vae(config.movq, weights, PRECISIONS[precision], not disable_dynamic)
    vae.patcher.cached_patcher_init = (_vae_patcher, (folder, precision))
    return vae


def _clip_patcher(folder: Path, precision: str, disable_dynamic: bool = False) -> Any:
    return load_clip(folder, precision, disable_dynamic).patcher


def _vae_patcher(folder: Path, precision: str, disable_dynamic: bool = False) -> Any:
    return load_vae(folder, precision, disable_dynamic).patcher


def _config(folder: Path) -> ModelConfig:
    if not (folder / CONFIG_FILE).is_file():
        raise CheckpointError(f"no {CONFIG_FILE} in {folder}: copy it there with the weights")
    return load_config(folder)


def _weights(folder: Path, part: str) -> dict[str, Tensor]:
    """A part's tensors, mapped by ComfyUI's own loader. Raises CheckpointError that names the file."""
    path = folder / f"{part}.safetensors"
    if not path.is_file():
        raise CheckpointError(f"no weights at {path}: the file does not exist")
    try:
        return comfy.utils.load_torch_file(str(path), safe_load=True)
    except Exception as error:  # ComfyUI raises ValueError of its own making, safetensors its own class
        raise CheckpointError(
            f"cannot load {path}: it must be a complete safetensors file, and this one was cut short or has another "
            f"format ({' '.join(str(error).split())})"
        ) from error


def _assign(network: torch.nn.Module, weights: dict[str, Tensor], path: Path, dtype: torch.dtype) -> None:
    check_weights(network, weights, str(path))
    network.load_state_dict({key: value.to(dtype) for key, value in weights.items()}, strict=True, assign=True)
    network.requires_grad_(False)


@lru_cache(maxsize=4)
def _colours(folder: Path) -> LatentColours:
    """Fitted on the CPU when the first preview is asked for."""
    movq = MoVQ(_config(folder).movq, device="meta")
    _assign(movq, _weights(folder, "movq"), folder / "movq.safetensors", torch.float32)
    with torch.inference_mode():
        return fit_latent_colours(movq)
