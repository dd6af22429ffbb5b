"""Every part of ComfyUI that this room touches, in one table, checked when the pack is loaded.

ComfyUI promises nothing about these. A version that lacks one is met by a sentence that names it, instead of a
traceback from the middle of a run. `tests/nodes/test_internals.py` holds the table equal to what this room touches.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable
from typing import Any, NamedTuple

CHECKED = "0.18.1, 0.27.0 and 0.33.0"


class Touch(NamedTuple):
    """One thing of ComfyUI that is used."""

    path: str  # module.name, module.Class.method, or module.Class.attribute (also one that only its methods set)
    checked: str  # the versions of ComfyUI that it was checked on
    takes: str = ""  # parameters that are given by name, or that a method of ours replaces


INTERNALS = (
    # Our U-Nets as MODEL: model/hosted_models, networks, operations; sampling/sigmas; comfy/preview_images
    Touch("comfy.model_base.BaseModel", CHECKED, "model_config model_type device unet_model"),
    Touch("comfy.model_base.BaseModel._apply_model", CHECKED, "x t c_crossattn control transformer_options kwargs"),
    Touch("comfy.model_base.BaseModel.extra_conds", CHECKED, "kwargs"),
    Touch("comfy.model_base.BaseModel.memory_required", CHECKED, "input_shape cond_shapes"),
    Touch(
        "comfy.model_base.BaseModel.resize_cond_for_context_window",
        CHECKED,
        "cond_key cond_value window x_in device retain_index_list",
    ),
    Touch("comfy.model_base.BaseModel.state_dict_for_saving", CHECKED),
    Touch("comfy.model_base.BaseModel.model_config", CHECKED),
    Touch("comfy.ldm.modules.attention.optimized_attention", CHECKED, "heads mask kwargs"),
    Touch("comfy.model_base.BaseModel.diffusion_model", CHECKED),
    Touch("comfy.model_base.BaseModel.latent_format", CHECKED),
    Touch("comfy.model_base.BaseModel.model_sampling", CHECKED),
    Touch("comfy.model_base.ModelType.EPS", CHECKED),
    Touch("comfy.model_base.ModelType.V_PREDICTION", CHECKED),
    Touch("comfy.supported_models_base.BASE", CHECKED, "unet_config"),
    Touch("comfy.supported_models_base.BASE.set_inference_dtype", CHECKED, "dtype manual_cast_dtype"),
    Touch("comfy.supported_models_base.BASE.unet_extra_config", CHECKED),
    Touch("comfy.supported_models_base.BASE.sampling_settings", CHECKED),
    Touch("comfy.conds.CONDConstant", CHECKED, "cond"),
    Touch("comfy.conds.CONDRegular", CHECKED, "cond"),
    Touch("comfy.conds.CONDRegular._copy_with", CHECKED, "cond"),
    Touch("comfy.conds.CONDRegular.process_cond", CHECKED, "batch_size"),
    Touch("comfy.conds.CONDRegular.concat", CHECKED, "others"),
    Touch("comfy.conds.CONDNoiseShape", CHECKED, "cond"),
    Touch("comfy.conds.CONDNoiseShape.concat", CHECKED, "others"),
    Touch("comfy.latent_formats.LatentFormat", CHECKED),
    Touch("comfy.latent_formats.LatentFormat.process_in", CHECKED, "latent"),
    Touch("comfy.latent_formats.LatentFormat.process_out", CHECKED, "latent"),
    Touch("comfy.latent_formats.LatentFormat.latent_channels", CHECKED),
    Touch("comfy.latent_formats.LatentFormat.latent_dimensions", CHECKED),
    Touch("comfy.latent_formats.LatentFormat.latent_rgb_factors", CHECKED),
    Touch("comfy.latent_formats.LatentFormat.latent_rgb_factors_bias", CHECKED),
    Touch("comfy.latent_formats.LatentFormat.latent_rgb_factors_reshape", CHECKED),
    Touch("comfy.model_sampling.ModelSamplingDiscrete", CHECKED),
    Touch("comfy.model_sampling.ModelSamplingDiscrete.set_sigmas", CHECKED, "sigmas"),
    Touch("comfy.model_sampling.ModelSamplingDiscrete.sigma", CHECKED, "timestep"),
    Touch("comfy.model_sampling.ModelSamplingDiscrete.timestep", CHECKED, "sigma"),
    Touch("comfy.model_sampling.StableCascadeSampling", CHECKED),
    Touch("comfy.model_sampling.EPS", CHECKED),
    Touch("comfy.model_sampling.V_PREDICTION", CHECKED),
    Touch("comfy.model_sampling.V_PREDICTION.calculate_denoised", CHECKED, "sigma model_output model_input"),
    Touch("comfy.model_sampling.EPS.calculate_input", CHECKED, "sigma noise"),
    Touch("comfy.model_sampling.X0", CHECKED),
    Touch("comfy.model_sampling.reshape_sigma", CHECKED, "sigma noise_dim"),
    Touch("comfy.ops.CastWeightBiasOp", CHECKED),
    Touch("comfy.ops.CastWeightBiasOp.comfy_cast_weights", CHECKED),
    Touch("comfy.ops.cast_bias_weight", CHECKED, "s input offloadable"),
    Touch("comfy.ops.uncast_bias_weight", CHECKED, "s weight bias offload_stream"),
    Touch("comfy.ops.disable_weight_init", CHECKED),
    Touch("comfy.ops.disable_weight_init.Conv3d", CHECKED),
    Touch("comfy.ops.manual_cast", CHECKED),
    Touch("comfy.ops.manual_cast.Conv3d", CHECKED),
    Touch("comfy.patcher_extension.add_wrapper_with_key", CHECKED, "wrapper_type key wrapper is_model_options"),
    Touch("comfy.patcher_extension.get_all_wrappers", CHECKED, "wrapper_type transformer_options"),
    Touch("comfy.patcher_extension.WrapperExecutor.new_class_executor", CHECKED, "original class_obj wrappers"),
    Touch("comfy.patcher_extension.WrapperExecutor.class_obj", CHECKED),
    Touch("comfy.patcher_extension.WrappersMP.CALC_COND_BATCH", CHECKED),
    Touch("comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL", CHECKED),
    Touch("comfy.patcher_extension.WrappersMP.OUTER_SAMPLE", CHECKED),
    Touch("comfy.patcher_extension.WrappersMP.PREDICT_NOISE", CHECKED),
    # Loading and memory: model/loaders, patchers; comfy/model_files, memory
    Touch("comfy.model_patcher.ModelPatcher", CHECKED, "model load_device offload_device"),
    Touch("comfy.model_patcher.ModelPatcher.add_object_patch", CHECKED, "name obj"),
    Touch("comfy.model_patcher.ModelPatcher.add_wrapper_with_key", CHECKED, "wrapper_type key wrapper"),
    Touch("comfy.model_patcher.ModelPatcher.add_patches", CHECKED, "patches strength_patch strength_model"),
    Touch("comfy.model_patcher.ModelPatcher.clone", CHECKED),
    Touch("comfy.model_patcher.ModelPatcher.get_key_patches", CHECKED, "filter_prefix"),
    Touch("comfy.model_patcher.ModelPatcher.model_state_dict", CHECKED, "filter_prefix"),
    Touch("comfy.model_patcher.ModelPatcher.get_model_object", CHECKED, "name"),
    Touch("comfy.model_patcher.ModelPatcher.model_options", CHECKED),
    Touch("comfy.model_patcher.ModelPatcher.set_model_unet_function_wrapper", CHECKED, "unet_wrapper_function"),
    Touch("comfy.model_patcher.ModelPatcher.cached_patcher_init", CHECKED),
    Touch("comfy.model_patcher.create_model_options_clone", CHECKED, "orig_model_options"),
    Touch("comfy.model_patcher.CoreModelPatcher", CHECKED, "model load_device offload_device"),
    Touch("comfy.utils.load_torch_file", CHECKED, "ckpt safe_load"),
    Touch("comfy.model_management.get_free_memory", CHECKED, "dev"),
    Touch("comfy.model_management.loaded_models", CHECKED),
    Touch("comfy_execution.utils.get_executing_context", CHECKED),
    Touch("comfy.model_management.dtype_size", CHECKED, "dtype"),
    Touch("comfy.model_management.get_torch_device", CHECKED),
    Touch("comfy.model_management.is_device_cpu", CHECKED, "device"),
    Touch("comfy.model_management.intermediate_device", CHECKED),
    Touch("comfy.model_management.text_encoder_device", CHECKED),
    Touch("comfy.model_management.text_encoder_dtype", CHECKED, "device"),
    Touch("comfy.model_management.throw_exception_if_processing_interrupted", CHECKED),
    Touch("comfy.model_management.unet_dtype", CHECKED, "device model_params"),
    Touch("comfy.model_management.unet_manual_cast", CHECKED, "weight_dtype inference_device"),
    Touch("comfy.model_management.unet_offload_device", CHECKED),
    Touch("comfy.model_management.vae_device", CHECKED),
    Touch("comfy.model_management.vae_dtype", CHECKED, "device allowed_dtypes"),
    Touch("comfy.model_management.vae_offload_device", CHECKED),
    Touch("folder_paths.add_model_folder_path", CHECKED, "folder_name full_folder_path"),
    Touch("folder_paths.get_filename_list", CHECKED, "folder_name"),
    Touch("folder_paths.get_folder_paths", CHECKED, "folder_name"),
    Touch("folder_paths.get_full_path", CHECKED, "folder_name filename"),
    Touch("folder_paths.get_input_directory", CHECKED),
    Touch("folder_paths.get_output_directory", CHECKED),
    Touch("folder_paths.get_save_image_path", CHECKED, "filename_prefix output_dir image_width image_height"),
    Touch("folder_paths.get_temp_directory", CHECKED),
    # The text encoder as CLIP: model/clip
    Touch("comfy.sd.CLIP", CHECKED, "target parameters state_dict model_options disable_dynamic"),
    Touch("comfy.sd.CLIP.encode_from_tokens_scheduled", CHECKED, "tokens"),
    Touch("comfy.sd.CLIP.tokenize", CHECKED, "text"),
    Touch("comfy.sd.CLIP.patcher", CHECKED),
    Touch("comfy.supported_models_base.ClipTarget", CHECKED, "tokenizer clip"),
    Touch("comfy.sd1_clip.token_weights", CHECKED, "string current_weight"),
    Touch("comfy.sd1_clip.escape_important", CHECKED, "text"),
    Touch("comfy.sd1_clip.unescape_important", CHECKED, "text"),
    Touch("comfy.text_encoders.t5.T5", CHECKED, "config_dict dtype device operations"),
    # MoVQ as VAE: model/vae
    Touch("comfy.sd.VAE", CHECKED, "sd"),
    Touch("comfy.sd.VAE.get_sd", CHECKED),
    Touch("comfy.sd.VAE.decode", CHECKED, "samples_in vae_options"),
    Touch("comfy.sd.VAE.encode", CHECKED, "pixel_samples"),
    Touch("comfy.sd.VAE.model_size", CHECKED),
    Touch("comfy.sd.VAE.first_stage_model", CHECKED),
    Touch("comfy.sd.VAE.device", CHECKED),
    Touch("comfy.sd.VAE.working_dtypes", CHECKED),
    Touch("comfy.sd.VAE.vae_dtype", CHECKED),
    Touch("comfy.sd.VAE.output_device", CHECKED),
    Touch("comfy.sd.VAE.latent_channels", CHECKED),
    Touch("comfy.sd.VAE.latent_dim", CHECKED),
    Touch("comfy.sd.VAE.output_channels", CHECKED),
    Touch("comfy.sd.VAE.upscale_ratio", CHECKED),
    Touch("comfy.sd.VAE.downscale_ratio", CHECKED),
    Touch("comfy.sd.VAE.upscale_index_formula", CHECKED),
    Touch("comfy.sd.VAE.downscale_index_formula", CHECKED),
    Touch("comfy.sd.VAE.memory_used_encode", CHECKED),
    Touch("comfy.sd.VAE.memory_used_decode", CHECKED),
    Touch("comfy.sd.VAE.patcher", CHECKED),
    # Sampling: sampling/guiders, patches, stages
    Touch("comfy.samplers.calc_cond_batch", CHECKED, "model conds x_in timestep model_options"),
    Touch("comfy.samplers.CFGGuider", CHECKED, "model_patcher"),
    Touch("comfy.samplers.CFGGuider.inner_set_conds", CHECKED, "conds"),
    Touch("comfy.samplers.CFGGuider.predict_noise", CHECKED, "x timestep model_options seed"),
    Touch("comfy.samplers.CFGGuider.set_conds", CHECKED, "positive negative"),
    Touch("comfy.samplers.CFGGuider.set_cfg", CHECKED, "cfg"),
    Touch("comfy.samplers.CFGGuider.conds", CHECKED),
    Touch("comfy.samplers.CFGGuider.inner_model", CHECKED),
    Touch("comfy.samplers.CFGGuider.model_patcher", CHECKED),
    Touch(
        "comfy.samplers.CFGGuider.sample",
        CHECKED,
        "noise latent_image sampler sigmas denoise_mask callback disable_pbar seed",
    ),
    Touch("comfy.samplers.KSAMPLER", CHECKED, "sampler_function"),
    Touch("comfy.samplers.SAMPLER_NAMES", CHECKED),
    Touch("comfy.samplers.SCHEDULER_NAMES", CHECKED),
    Touch("comfy.samplers.calculate_sigmas", CHECKED, "model_sampling scheduler_name steps"),
    Touch("comfy.samplers.sampler_object", CHECKED, "name"),
    Touch(
        "comfy.context_windows.IndexListContextHandler",
        CHECKED,
        "context_schedule fuse_method context_length context_overlap dim",
    ),
    Touch("comfy.context_windows.IndexListContextHandler.get_resized_cond", CHECKED, "cond_in x_in window device"),
    Touch("comfy.context_windows.IndexListContextWindow.get_tensor", CHECKED, "full device dim"),
    Touch("comfy.context_windows.ContextSchedules.STATIC_STANDARD", CHECKED),
    Touch("comfy.context_windows.ContextFuseMethods.OVERLAP_LINEAR", CHECKED),
    Touch("comfy.context_windows.get_matching_context_schedule", CHECKED, "context_schedule"),
    Touch("comfy.context_windows.get_matching_fuse_method", CHECKED, "fuse_method"),
    Touch("comfy.context_windows.create_prepare_sampling_wrapper", CHECKED, "model"),
    Touch("comfy.sampler_helpers.prepare_mask", CHECKED, "noise_mask shape device"),
    Touch("comfy.utils.ProgressBar", CHECKED, "total"),
    Touch("comfy.utils.ProgressBar.update_absolute", CHECKED, "value total preview"),
    Touch("comfy.utils.PROGRESS_BAR_ENABLED", CHECKED),
    Touch("comfy.utils.common_upscale", CHECKED, "samples width height upscale_method crop"),
    Touch("comfy_api.latest.InputImpl.VideoFromFile", CHECKED, "file start_time duration"),
    Touch("comfy_api.latest.InputImpl.VideoFromComponents", CHECKED),
    Touch("comfy_api.latest.Types.VideoComponents", CHECKED),
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
