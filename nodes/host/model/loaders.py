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

from ....fusionframes_core.checkpoints.component import Component
from ....fusionframes_core.checkpoints.embedded_config import CONFIG_TENSOR, config_tensor
from ....fusionframes_core.checkpoints.model_folder import CONFIG_FILE
from ....fusionframes_core.checkpoints.official_folder import official_version
from ....fusionframes_core.checkpoints.open_model import open_component, open_model, open_text_encoder
from ....fusionframes_core.checkpoints.state_dict import Sources, check_sources
from ....fusionframes_core.checkpoints.temporal_blocks import AUTO, with_temporal
from ....fusionframes_core.checkpoints.text_encoder_weights import TOKENIZER_FILE
from ....fusionframes_core.checkpoints.weights_file import SAFETENSORS, SafetensorsFile
from ....fusionframes_core.errors import CheckpointError
from ....fusionframes_core.media.latent_preview import PLAIN_COLOURS, LatentColours, fit_latent_colours, read_colours
from ....fusionframes_core.models.casting import FP8, stored_type
from ....fusionframes_core.models.movq.movq import MoVQ
from ..comfy import model_files as files
from ..comfy.preview_images import VideoLatents
from ..sampling.guiders import before_sampling, limit_prediction
from .clip import make_clip
from .hosted_models import Hosting, InterpolationModel, KeyframeModel, VideoModel
from .patchers import unet_patcher_class
from .vae import make_vae

PRECISIONS = {"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp8": FP8}
MODELS: dict[str, type[Any]] = {model.component: model for model in (KeyframeModel, InterpolationModel)}
WRAPPERS = {WrappersMP.PREDICT_NOISE: limit_prediction, WrappersMP.OUTER_SAMPLE: before_sampling}


def load_parts(name: str, precision: str, temporal: str = AUTO) -> tuple[Any, Any, Any, Any, Any]:
    """(keyframe MODEL, interpolation MODEL, CLIP, VAE, VAE of the first image) of a model.

    Raises ValueError when it cannot be loaded.
    """
    components = open_folder(files.model_location(name))
    unets = [load_unet(components[kind], precision, temporal) for kind in MODELS]
    clip, vae = load_clip(components["text_encoder"], precision), load_vae(components["movq"], precision)
    image_vae = load_vae(components["image_movq"], precision) if "image_movq" in components else vae
    return unets[0], unets[1], clip, vae, image_vae


def open_folder(folder: Path) -> dict[str, Component]:
    """What a model folder, of ours or of official files, holds. Raises CheckpointError when it is none."""
    if (folder / CONFIG_FILE).is_file():
        return dict(open_model(folder).components)
    if official_version(folder) is None:
        raise CheckpointError(f"no {CONFIG_FILE} in {folder}: copy it there with the weights")
    return dict(open_model(folder, text_encoder=files.official_text_folder(folder)).components)


def load_unet_file(name: str, precision: str, temporal: str) -> Any:
    """The U-Net in a file, as MODEL. Raises ValueError when it is none."""
    component = open_component(files.unet_file(name))
    if not component.kind.is_unet:
        raise ValueError(f"unet_name must be a U-Net; {name} holds a MoVQ: FusionFrames Load VAE loads it from vae")
    return load_unet(component, precision, temporal)


def load_movq_file(name: str, precision: str) -> Any:
    """The MoVQ in a file, as VAE. Raises ValueError when it is none."""
    component = open_component(files.movq_file(name))
    if component.kind.is_unet:
        raise ValueError(f"vae_name must be a MoVQ; {name} holds a U-Net: FusionFrames Load U-Net loads it")
    return load_vae(component, precision)


def load_text_files(name: str, projection: str, precision: str) -> Any:
    """The text encoder in a folder, with a projection where it has none of its own, as CLIP."""
    folder = files.text_location(name)
    own = (folder / CONFIG_FILE).is_file() and (folder / "text_encoder.safetensors").is_file()
    return load_clip(open_text_encoder(folder, None if own else files.projection_file(projection)), precision)


def load_unet(whole: Component, precision: str, temporal: str = AUTO, disable_dynamic: bool = False) -> Any:
    """A U-Net as a ModelPatcher; of a keyframe U-Net with the temporal parts of a name."""
    component = with_temporal(whole, temporal)
    weights = _weights(component.sources)
    device = management.get_torch_device()
    count = sum(weight.numel() for weight in weights.values())
    kind = PRECISIONS[precision] or management.unet_dtype(device=device, model_params=count)
    cast = management.unet_manual_cast(kind, device)
    latents = VideoLatents(partial(_colours, component.folder))
    hosting = Hosting(component.model, component.null_embedding(), latents, kind, cast)
    model: VideoModel = MODELS[component.kind.name](hosting)
    _assign(model.diffusion_model, weights, component.sources, kind)
    make = unet_patcher_class(not disable_dynamic, device)
    patcher = make(model, load_device=device, offload_device=management.unet_offload_device())
    patcher.cached_patcher_init = (load_unet, (whole, precision, temporal))
    for place, wrapper in WRAPPERS.items():
        patcher.add_wrapper_with_key(place, "fusionframes", wrapper)
    return patcher


def load_clip(text: Component, precision: str, disable_dynamic: bool = False) -> Any:
    """The text encoder. ComfyUI's T5 computes in fp32 whatever its weights are, so that fp16 cannot overflow.

    So `auto` keeps T5's weights as they are mapped where a file has them in 16 bits: nothing is copied then.
    """
    kind = PRECISIONS[precision] or _half_of_file(text)
    kind = kind or management.text_encoder_dtype(management.text_encoder_device())
    kind = text.kind.kept_dtype(kind) if kind == FP8 else kind
    flags = {"disable_dynamic": True} if disable_dynamic else {}
    tokenizer = text.tokenizer
    assert tokenizer is not None
    tokenizer = tokenizer / TOKENIZER_FILE if tokenizer.is_dir() else tokenizer
    clip = make_clip(text.config, tokenizer, _weights(text.sources), {"dtype": kind}, **flags)
    clip.patcher.cached_patcher_init = (_clip_patcher, (text, precision))
    return clip


def _half_of_file(text: Component) -> torch.dtype | None:
    """The one 16-bit type that T5's matrices have in their files; None where they have another, or several."""
    found = {
        file.entries[theirs].dtype
        for file, names in text.sources
        for ours, theirs in names.items()
        if ours.startswith("t5.") and len(file.entries[theirs].shape) > 1
    }
    return found.pop() if found in ({torch.bfloat16}, {torch.float16}) else None


def load_vae(component: Component, precision: str, disable_dynamic: bool = False) -> Any:
    """The decoder (and encoder)."""
    check_sources(MoVQ(component.config, device="meta"), component.sources)
    kind = PRECISIONS[precision]
    kind = component.kind.kept_dtype(kind) if kind == FP8 else kind
    vae = make_vae(component.config, _weights(component.sources), kind, not disable_dynamic)
    vae.get_sd = lambda: {**vae.first_stage_model.state_dict(), CONFIG_TENSOR: config_tensor(component.model)}
    vae.patcher.cached_patcher_init = (_vae_patcher, (component, precision))
    return vae


def _clip_patcher(text: Component, precision: str, disable_dynamic: bool = False) -> Any:
    return load_clip(text, precision, disable_dynamic).patcher


def _vae_patcher(component: Component, precision: str, disable_dynamic: bool = False) -> Any:
    return load_vae(component, precision, disable_dynamic).patcher


def _weights(sources: Sources) -> dict[str, Tensor]:
    """Tensors under our names: safetensors mapped by ComfyUI's own loader, PyTorch's files by core's, which is safe.

    ComfyUI tells them by the suffix, core by the content.
    """
    weights: dict[str, Tensor] = {}
    for file, names in sources:
        named_so = isinstance(file, SafetensorsFile) and file.path.suffix.lower() in SAFETENSORS
        found = _mapped(file.path) if named_so else file.tensors(names.values())
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
    """The model folder's own; or fitted on the CPU when the first preview is asked for; plain without a MoVQ."""
    stored = read_colours(folder)
    if stored is not None:
        return stored
    file = files.movq_beside(folder)
    if file is None:
        return PLAIN_COLOURS
    movq = open_component(file).load(torch.float32)
    with torch.inference_mode():
        return fit_latent_colours(movq)
