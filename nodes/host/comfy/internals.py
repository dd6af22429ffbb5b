"""Every part of ComfyUI that this room touches, in one table, checked when the pack is loaded.

ComfyUI promises nothing about these. A version that lacks one is met by a sentence that names it, instead of a
traceback from the middle of a run. `tests/nodes/test_internals.py` holds the table equal to what this room touches.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable
from typing import Any, NamedTuple

BOTH = "0.18.1 and 0.27.0"


class Touch(NamedTuple):
    """One thing of ComfyUI that is used."""

    path: str  # module.name, module.Class.method, or module.Class.attribute (also one that only its methods set)
    checked: str  # the versions of ComfyUI that it was checked on
    takes: str = ""  # parameters that are given by name, or that a method of ours replaces


INTERNALS = (
    # Our U-Nets as MODEL: model/hosted_models, networks, operations; sampling/sigmas; comfy/preview_images
    Touch("comfy.model_base.BaseModel", BOTH, "model_config model_type device unet_model"),
    Touch("comfy.model_base.BaseModel._apply_model", BOTH, "x t c_crossattn control transformer_options kwargs"),
    Touch("comfy.model_base.BaseModel.extra_conds", BOTH, "kwargs"),
    Touch("comfy.model_base.BaseModel.memory_required", BOTH, "input_shape cond_shapes"),
    Touch(
        "comfy.model_base.BaseModel.resize_cond_for_context_window",
        BOTH,
        "cond_key cond_value window x_in device retain_index_list",
    ),
    Touch("comfy.model_base.BaseModel.state_dict_for_saving", BOTH),
    Touch("comfy.model_base.BaseModel.model_config", BOTH),
    Touch("comfy.ldm.modules.attention.optimized_attention", BOTH, "heads mask kwargs"),
    Touch("comfy.model_base.BaseModel.diffusion_model", BOTH),
    Touch("comfy.model_base.BaseModel.latent_format", BOTH),
    Touch("comfy.model_base.BaseModel.model_sampling", BOTH),
    Touch("comfy.model_base.ModelType.EPS", BOTH),
    Touch("comfy.model_base.ModelType.V_PREDICTION", BOTH),
    Touch("comfy.supported_models_base.BASE", BOTH, "unet_config"),
    Touch("comfy.supported_models_base.BASE.set_inference_dtype", BOTH, "dtype manual_cast_dtype"),
    Touch("comfy.supported_models_base.BASE.unet_extra_config", BOTH),
    Touch("comfy.supported_models_base.BASE.sampling_settings", BOTH),
    Touch("comfy.conds.CONDConstant", BOTH, "cond"),
    Touch("comfy.conds.CONDRegular", BOTH, "cond"),
    Touch("comfy.conds.CONDRegular._copy_with", BOTH, "cond"),
    Touch("comfy.conds.CONDNoiseShape", BOTH, "cond"),
    Touch("comfy.conds.CONDNoiseShape.concat", BOTH, "others"),
    Touch("comfy.latent_formats.LatentFormat", BOTH),
    Touch("comfy.latent_formats.LatentFormat.process_in", BOTH, "latent"),
    Touch("comfy.latent_formats.LatentFormat.process_out", BOTH, "latent"),
    Touch("comfy.latent_formats.LatentFormat.latent_channels", BOTH),
    Touch("comfy.latent_formats.LatentFormat.latent_dimensions", BOTH),
    Touch("comfy.latent_formats.LatentFormat.latent_rgb_factors", BOTH),
    Touch("comfy.latent_formats.LatentFormat.latent_rgb_factors_bias", BOTH),
    Touch("comfy.latent_formats.LatentFormat.latent_rgb_factors_reshape", BOTH),
    Touch("comfy.model_sampling.ModelSamplingDiscrete", BOTH),
    Touch("comfy.model_sampling.ModelSamplingDiscrete.set_sigmas", BOTH, "sigmas"),
    Touch("comfy.model_sampling.ModelSamplingDiscrete.sigma", BOTH, "timestep"),
    Touch("comfy.model_sampling.ModelSamplingDiscrete.timestep", BOTH, "sigma"),
    Touch("comfy.model_sampling.EPS", BOTH),
    Touch("comfy.model_sampling.V_PREDICTION", BOTH),
    Touch("comfy.model_sampling.V_PREDICTION.calculate_denoised", BOTH, "sigma model_output model_input"),
    Touch("comfy.model_sampling.EPS.calculate_input", BOTH, "sigma noise"),
    Touch("comfy.model_sampling.X0", BOTH),
    Touch("comfy.model_sampling.reshape_sigma", BOTH, "sigma noise_dim"),
    Touch("comfy.ops.CastWeightBiasOp", BOTH),
    Touch("comfy.ops.CastWeightBiasOp.comfy_cast_weights", BOTH),
    Touch("comfy.ops.cast_bias_weight", BOTH, "s input"),
    Touch("comfy.ops.disable_weight_init", BOTH),
    Touch("comfy.ops.disable_weight_init.Conv3d", BOTH),
    Touch("comfy.ops.manual_cast", BOTH),
    Touch("comfy.ops.manual_cast.Conv3d", BOTH),
    Touch("comfy.patcher_extension.get_all_wrappers", BOTH, "wrapper_type transformer_options"),
    Touch("comfy.patcher_extension.WrapperExecutor.new_class_executor", BOTH, "original class_obj wrappers"),
    Touch("comfy.patcher_extension.WrapperExecutor.class_obj", BOTH),
    Touch("comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL", BOTH),
    Touch("comfy.patcher_extension.WrappersMP.OUTER_SAMPLE", BOTH),
    Touch("comfy.patcher_extension.WrappersMP.PREDICT_NOISE", BOTH),
    # Loading and memory: model/loaders, patchers; comfy/model_files, memory
    Touch("comfy.model_patcher.ModelPatcher", BOTH, "model load_device offload_device"),
    Touch("comfy.model_patcher.ModelPatcher.add_object_patch", BOTH, "name obj"),
    Touch("comfy.model_patcher.ModelPatcher.add_wrapper_with_key", BOTH, "wrapper_type key wrapper"),
    Touch("comfy.model_patcher.ModelPatcher.clone", BOTH),
    Touch("comfy.model_patcher.ModelPatcher.get_model_object", BOTH, "name"),
    Touch("comfy.model_patcher.ModelPatcher.model_options", BOTH),
    Touch("comfy.model_patcher.ModelPatcher.set_model_unet_function_wrapper", BOTH, "unet_wrapper_function"),
    Touch("comfy.model_patcher.ModelPatcher.cached_patcher_init", BOTH),
    Touch("comfy.model_patcher.CoreModelPatcher", BOTH, "model load_device offload_device"),
    Touch("comfy.utils.load_torch_file", BOTH, "ckpt safe_load"),
    Touch("comfy.model_management.get_free_memory", BOTH, "dev"),
    Touch("comfy.model_management.loaded_models", BOTH),
    Touch("comfy_execution.utils.get_executing_context", BOTH),
    Touch("comfy.model_management.dtype_size", BOTH, "dtype"),
    Touch("comfy.model_management.get_torch_device", BOTH),
    Touch("comfy.model_management.intermediate_device", BOTH),
    Touch("comfy.model_management.text_encoder_device", BOTH),
    Touch("comfy.model_management.text_encoder_dtype", BOTH, "device"),
    Touch("comfy.model_management.throw_exception_if_processing_interrupted", BOTH),
    Touch("comfy.model_management.unet_dtype", BOTH, "device model_params"),
    Touch("comfy.model_management.unet_manual_cast", BOTH, "weight_dtype inference_device"),
    Touch("comfy.model_management.unet_offload_device", BOTH),
    Touch("comfy.model_management.vae_device", BOTH),
    Touch("comfy.model_management.vae_dtype", BOTH, "device allowed_dtypes"),
    Touch("comfy.model_management.vae_offload_device", BOTH),
    Touch("folder_paths.add_model_folder_path", BOTH, "folder_name full_folder_path"),
    Touch("folder_paths.get_filename_list", BOTH, "folder_name"),
    Touch("folder_paths.get_folder_paths", BOTH, "folder_name"),
    Touch("folder_paths.get_full_path", BOTH, "folder_name filename"),
    Touch("folder_paths.get_output_directory", BOTH),
    # The text encoder as CLIP: model/clip
    Touch("comfy.sd.CLIP", BOTH, "target parameters state_dict model_options disable_dynamic"),
    Touch("comfy.sd.CLIP.encode_from_tokens_scheduled", BOTH, "tokens"),
    Touch("comfy.sd.CLIP.tokenize", BOTH, "text"),
    Touch("comfy.sd.CLIP.patcher", BOTH),
    Touch("comfy.supported_models_base.ClipTarget", BOTH, "tokenizer clip"),
    Touch("comfy.sd1_clip.token_weights", BOTH, "string current_weight"),
    Touch("comfy.sd1_clip.escape_important", BOTH, "text"),
    Touch("comfy.sd1_clip.unescape_important", BOTH, "text"),
    Touch("comfy.text_encoders.t5.T5", BOTH, "config_dict dtype device operations"),
    # MoVQ as VAE: model/vae
    Touch("comfy.sd.VAE", BOTH, "sd"),
    Touch("comfy.sd.VAE.get_sd", BOTH),
    Touch("comfy.sd.VAE.decode", BOTH, "samples_in vae_options"),
    Touch("comfy.sd.VAE.encode", BOTH, "pixel_samples"),
    Touch("comfy.sd.VAE.model_size", BOTH),
    Touch("comfy.sd.VAE.first_stage_model", BOTH),
    Touch("comfy.sd.VAE.device", BOTH),
    Touch("comfy.sd.VAE.working_dtypes", BOTH),
    Touch("comfy.sd.VAE.vae_dtype", BOTH),
    Touch("comfy.sd.VAE.output_device", BOTH),
    Touch("comfy.sd.VAE.latent_channels", BOTH),
    Touch("comfy.sd.VAE.latent_dim", BOTH),
    Touch("comfy.sd.VAE.output_channels", BOTH),
    Touch("comfy.sd.VAE.upscale_ratio", BOTH),
    Touch("comfy.sd.VAE.downscale_ratio", BOTH),
    Touch("comfy.sd.VAE.upscale_index_formula", BOTH),
    Touch("comfy.sd.VAE.downscale_index_formula", BOTH),
    Touch("comfy.sd.VAE.memory_used_encode", BOTH),
    Touch("comfy.sd.VAE.memory_used_decode", BOTH),
    Touch("comfy.sd.VAE.patcher", BOTH),
    # Sampling: sampling/guiders, patches, stages
    Touch("comfy.samplers.calc_cond_batch", BOTH, "model conds x_in timestep model_options"),
    Touch("comfy.samplers.CFGGuider", BOTH, "model_patcher"),
    Touch("comfy.samplers.CFGGuider.inner_set_conds", BOTH, "conds"),
    Touch("comfy.samplers.CFGGuider.predict_noise", BOTH, "x timestep model_options seed"),
    Touch("comfy.samplers.CFGGuider.set_conds", BOTH, "positive negative"),
    Touch("comfy.samplers.CFGGuider.set_cfg", BOTH, "cfg"),
    Touch("comfy.samplers.CFGGuider.conds", BOTH),
    Touch("comfy.samplers.CFGGuider.inner_model", BOTH),
    Touch("comfy.samplers.CFGGuider.model_patcher", BOTH),
    Touch(
        "comfy.samplers.CFGGuider.sample",
        BOTH,
        "noise latent_image sampler sigmas denoise_mask callback disable_pbar seed",
    ),
    Touch("comfy.samplers.KSAMPLER", BOTH, "sampler_function"),
    Touch("comfy.samplers.SAMPLER_NAMES", BOTH),
    Touch("comfy.samplers.SCHEDULER_NAMES", BOTH),
    Touch("comfy.samplers.calculate_sigmas", BOTH, "model_sampling scheduler_name steps"),
    Touch("comfy.samplers.sampler_object", BOTH, "name"),
    Touch(
        "comfy.context_windows.IndexListContextHandler",
        BOTH,
        "context_schedule fuse_method context_length context_overlap dim",
    ),
    Touch("comfy.context_windows.IndexListContextHandler.get_resized_cond", BOTH, "cond_in x_in window device"),
    Touch("comfy.context_windows.IndexListContextWindow.get_tensor", BOTH, "full device dim"),
    Touch("comfy.context_windows.ContextSchedules.STATIC_STANDARD", BOTH),
    Touch("comfy.context_windows.ContextFuseMethods.OVERLAP_LINEAR", BOTH),
    Touch("comfy.context_windows.get_matching_context_schedule", BOTH, "context_schedule"),
    Touch("comfy.context_windows.get_matching_fuse_method", BOTH, "fuse_method"),
    Touch("comfy.context_windows.create_prepare_sampling_wrapper", BOTH, "model"),
    Touch("comfy.utils.ProgressBar", BOTH, "total"),
    Touch("comfy.utils.ProgressBar.update_absolute", BOTH, "value total preview"),
    Touch("comfy.utils.PROGRESS_BAR_ENABLED", BOTH),
    Touch("comfy.utils.common_upscale", BOTH, "samples width height upscale_method crop"),
    Touch("comfy_api.latest.InputImpl.VideoFromComponents", BOTH),
    Touch("comfy_api.latest.Types.VideoComponents", BOTH),
)


def check(touches: Iterable[Touch] = INTERNALS) -> None:
    """Raise ImportError, in one sentence, when this ComfyUI lacks something of the table."""
    missing = [(touch, lack) for touch in touches if (lack := find_lack(touch))]
    if missing:
        lacks = "; ".join(lack for _, lack in missing)
        versions = ", ".join(sorted({touch.checked for touch, _ in missing}))
        raise ImportError(
            f"FusionFrames cannot work with this ComfyUI ({_version()}): {lacks}. It was checked on {versions}: update "
            "the pack, or use one of these"
        )


def find_lack(touch: Touch) -> str:
    """What is missing of one row, in words; nothing: an empty string."""
    try:
        found = _resolve(touch.path)
    except (ImportError, AttributeError):
        return f"{touch.path} is not there"
    lacking = [name for name in touch.takes.split() if name not in inspect.signature(found).parameters]
    return f"{touch.path} does not take {' and '.join(lacking)}" if lacking else ""


def _resolve(path: str) -> Any:
    """The object at a dotted path; None for one that only instances have. Raises ImportError, AttributeError."""
    root, *names = path.split(".")
    found: Any = importlib.import_module(root)
    for name in names:
        if inspect.ismodule(found) and not hasattr(found, name):
            found = importlib.import_module(f"{found.__name__}.{name}")
        elif inspect.isclass(found) and not hasattr(found, name) and _is_set_by(found, name):
            found = None
        else:
            found = getattr(found, name)
    return found


def _is_set_by(kind: type, name: str) -> bool:
    """Whether a method of a class names an attribute, as __init__ does that sets it."""
    methods = (method for parent in kind.__mro__ for method in vars(parent).values())
    return any(name in method.__code__.co_names for method in methods if inspect.isfunction(method))


def _version() -> str:
    try:
        return str(importlib.import_module("comfyui_version").__version__)
    except (ImportError, AttributeError):
        return "of unknown version"
