"""From files to ComfyUI's MODEL, CLIP and VAE.

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

from ....fusionframes_core.checkpoints.component import part_dtype
from ....fusionframes_core.checkpoints.model_folder import CONFIG_FILE, TOKENIZER_FILE, load_config
from ....fusionframes_core.checkpoints.official_folder import official_version, open_official
from ....fusionframes_core.checkpoints.parts import (
    Part,
    TextPart,
    official_part,
    open_part,
    open_text_part,
    own_part,
    own_text_part,
)
from ....fusionframes_core.checkpoints.state_dict import Sources, check_sources
from ....fusionframes_core.checkpoints.temporal_blocks import AUTO, with_temporal
from ....fusionframes_core.checkpoints.weights_file import is_pickled
from ....fusionframes_core.errors import CheckpointError
from ....fusionframes_core.media.latent_preview import PLAIN_COLOURS, LatentColours, fit_latent_colours
from ....fusionframes_core.models.casting import FP8, stored_type
from ....fusionframes_core.models.movq.movq import MoVQ
from ..comfy import model_files as files
from ..comfy.preview_images import VideoLatents
from ..sampling.guiders import before_sampling, limit_prediction
from .clip import make_clip
from .hosted_models import Hosting, InterpolationModel, KeyframeModel, VideoModel
from .patchers import patcher_class
from .vae import make_vae

PRECISIONS = {"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp8": FP8}
MODELS: dict[str, type[Any]] = {"keyframe": KeyframeModel, "interpolation": InterpolationModel}
WRAPPERS = {WrappersMP.PREDICT_NOISE: limit_prediction, WrappersMP.OUTER_SAMPLE: before_sampling}


def load_parts(name: str, precision: str, temporal: str = AUTO) -> tuple[Any, Any, Any, Any, Any]:
    """(keyframe MODEL, interpolation MODEL, CLIP, VAE, VAE of the first image) of a model.

    Raises ValueError when it cannot be loaded.
    """
    parts, text = model_parts(files.model_location(name))
    unets = [load_unet(parts[kind], precision, temporal) for kind in MODELS]
    vae = load_vae(parts["movq"], precision)
    image_vae = load_vae(parts["image_movq"], precision) if "image_movq" in parts else vae
    return unets[0], unets[1], load_clip(text, precision), vae, image_vae


def model_parts(folder: Path) -> tuple[dict[str, Part], TextPart]:
    """What a model folder, of ours or of official files, holds."""
    if (folder / CONFIG_FILE).is_file():
        config = load_config(folder)
        kinds = [*MODELS, "movq", *(["image_movq"] if config.image_movq else [])]
        return {kind: own_part(folder, config, kind) for kind in kinds}, own_text_part(folder)
    if official_version(folder) is None:
        raise CheckpointError(f"no {CONFIG_FILE} in {folder}: copy it there with the weights")
    model = open_official(folder, files.official_text_folder(folder))
    parts = {kind: official_part(model, folder, kind) for kind in model.files if kind != "projections"}
    return parts, TextPart(model.config.text, model.text_sources, model.text_folder)


def load_unet_file(name: str, precision: str, temporal: str) -> Any:
    """The U-Net in a file, as MODEL. Raises ValueError when it is none."""
    part = open_part(files.unet_file(name))
    if part.kind not in MODELS:
        raise ValueError(f"unet_name must be a U-Net; {name} holds a MoVQ: FusionFrames Load MoVQ loads it from vae")
    return load_unet(part, precision, temporal)


def load_movq_file(name: str, precision: str) -> Any:
    """The MoVQ in a file, as VAE. Raises ValueError when it is none."""
    part = open_part(files.movq_file(name))
    if part.kind != "movq":
        raise ValueError(f"movq_name must be a MoVQ; {name} holds a U-Net: FusionFrames Load U-Net loads it")
    return load_vae(part, precision)


def load_text_files(name: str, projection: str, precision: str) -> Any:
    """The text encoder in a folder, with a projection where it has none of its own, as CLIP."""
    folder = files.text_location(name)
    own = (folder / CONFIG_FILE).is_file() and (folder / "text_encoder.safetensors").is_file()
    text = own_text_part(folder) if own else open_text_part(folder, files.projection_file(projection))
    return load_clip(text, precision)


def load_unet(whole: Part, precision: str, temporal: str = AUTO, disable_dynamic: bool = False) -> Any:
    """A U-Net as a ModelPatcher; of a keyframe U-Net with the temporal parts of a name."""
    part = with_temporal(whole, temporal)
    weights = _weights(part.sources)
    device = management.get_torch_device()
    count = sum(weight.numel() for weight in weights.values())
    kind = PRECISIONS[precision] or management.unet_dtype(device=device, model_params=count)
    cast = management.unet_manual_cast(kind, device)
    latents = VideoLatents(partial(_colours, part.folder))
    model: VideoModel = MODELS[part.kind](Hosting(part.config, _null_embedding(part), latents, kind, cast))
    _assign(model.diffusion_model, weights, part.sources, kind)
    make = patcher_class(not disable_dynamic)
    patcher = make(model, load_device=device, offload_device=management.unet_offload_device())
    patcher.cached_patcher_init = (load_unet, (whole, precision, temporal))
    for place, wrapper in WRAPPERS.items():
        patcher.add_wrapper_with_key(place, "fusionframes", wrapper)
    return patcher


def load_clip(text: TextPart, precision: str, disable_dynamic: bool = False) -> Any:
    """The text encoder. ComfyUI's T5 computes in fp32 whatever its weights are, so that fp16 cannot overflow."""
    kind = PRECISIONS[precision] or management.text_encoder_dtype(management.text_encoder_device())
    kind = part_dtype("text_encoder", kind) if kind == FP8 else kind
    flags = {"disable_dynamic": True} if disable_dynamic else {}
    tokenizer = text.tokenizer / TOKENIZER_FILE if text.tokenizer.is_dir() else text.tokenizer
    clip = make_clip(text.config, tokenizer, _weights(text.sources), {"dtype": kind}, **flags)
    clip.patcher.cached_patcher_init = (_clip_patcher, (text, precision))
    return clip


def load_vae(part: Part, precision: str, disable_dynamic: bool = False) -> Any:
    """The decoder (and encoder)."""
    check_sources(MoVQ(part.network, device="meta"), part.sources)
    kind = PRECISIONS[precision]
    kind = part_dtype("movq", kind) if kind == FP8 else kind
    vae = make_vae(part.network, _weights(part.sources), kind, not disable_dynamic)
    vae.patcher.cached_patcher_init = (_vae_patcher, (part, precision))
    return vae


def _clip_patcher(text: TextPart, precision: str, disable_dynamic: bool = False) -> Any:
    return load_clip(text, precision, disable_dynamic).patcher


def _vae_patcher(part: Part, precision: str, disable_dynamic: bool = False) -> Any:
    return load_vae(part, precision, disable_dynamic).patcher


def _null_embedding(part: Part) -> Tensor:
    """A U-Net's unconditional context (D,): interpolation may have one of its own."""
    names = ["interpolation.null_embedding", "null_embedding"][part.kind == "keyframe" :]
    for name in names:
        for file, known in part.text:
            if name in known:
                return next(iter(file.tensors([known[name]]).values())).float().flatten().clone()
    raise CheckpointError(
        f"no null embedding in {part.folder}: the U-Net's own file, or text_encoder.safetensors, has it"
    )


def _weights(sources: Sources) -> dict[str, Tensor]:
    """Tensors under our names: safetensors mapped by ComfyUI's own loader, PyTorch's files by core's, which is safe."""
    weights: dict[str, Tensor] = {}
    for file, names in sources:
        found = file.tensors(names.values()) if is_pickled(file.path) else _mapped(file.path)
        weights |= {ours: found[theirs] for ours, theirs in names.items()}
    return weights


def _mapped(path: Path) -> dict[str, Tensor]:
    try:
        return comfy.utils.load_torch_file(str(path), safe_load=True)
    except Exception as error:  # ComfyUI raises ValueError of its own making, safetensors its own class
        raise CheckpointError(
            f"cannot load {path}: it must be a complete safetensors file, and this one was cut short or has another "
            f"format ({' '.join(str(error).split())})"
        ) from error


def _assign(network: torch.nn.Module, weights: dict[str, Tensor], sources: Sources, dtype: torch.dtype) -> None:
    check_sources(network, sources)
    kept = {key: value.to(stored_type(key, value.ndim, dtype)) for key, value in weights.items()}
    network.load_state_dict(kept, strict=True, assign=True)
    network.requires_grad_(False)


@lru_cache(maxsize=4)
def _colours(folder: Path) -> LatentColours:
    """Fitted on the CPU when the first preview is asked for; plain where the U-Net's MoVQ is not known."""
    file = files.movq_beside(folder)
    if file is None:
        return PLAIN_COLOURS
    part = open_part(file)
    movq = MoVQ(part.network, device="meta")
    _assign(movq, _weights(part.sources), part.sources, torch.float32)
    with torch.inference_mode():
        return fit_latent_colours(movq)
