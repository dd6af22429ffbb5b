"""ComfyUI's guiders over our MODELs, and what every MODEL of ours does inside any guider."""

from __future__ import annotations

from typing import Any

import comfy.samplers
import torch
from torch import Tensor

from ....fusionframes_core.sampling.guidance import TextImageGuidance
from ..comfy.memory import require_room_to_sample
from ..model.hosted_models import KeyframeModel
from . import checks
from .conditionings import ConditioningPair, FirstFrameConditionings
from .frame_guidances import take_frames
from .guided_frames import Sampled, hold
from .steady_steps import steady
from .stock_patches import require_known_conditions, require_known_levels, require_known_patches


def limit_prediction(executor: Any, *args: Any, **kwargs: Any) -> Tensor:
    """A PREDICT_NOISE wrapper: thresholding of the guided clean latents, whatever the guider."""
    x0 = executor(*args, **kwargs)
    return executor.class_obj.inner_model.limit(x0)


def before_sampling(
    executor: Any,
    noise: Tensor,
    latent_image: Tensor,
    sampler: Any,
    sigmas: Tensor,
    denoise_mask: Tensor | None = None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """An OUTER_SAMPLE wrapper: refuses what cannot work, aligns contexts, makes guidances able to read videos and
    the sampler able to take each step.

    Raises ValueError, before the first step of whichever node samples.
    """
    guider = executor.class_obj
    model = guider.model_patcher.model
    checks.require_finite(sigmas)
    checks.require_size(guider.model_patcher, noise)
    if isinstance(model, KeyframeModel):
        checks.require_frames(guider.conds, noise)
    require_known_conditions(guider.conds)
    require_known_patches(model.diffusion_model, guider.model_options)
    require_known_levels(guider.model_patcher.get_model_object("model_sampling"))
    take_frames(model, guider.model_options)
    require_room_to_sample(guider.model_patcher, noise)
    align_contexts(guider.conds)
    begun = hold(guider.model_options, Sampled(noise, latent_image, denoise_mask))
    return executor(noise, begun.latents, steady(sampler), sigmas, begun.mask, *args, **kwargs)


def align_contexts(conds: dict[str, Any]) -> None:
    """Give every context the length of the longest, padded with masked zeros.

    As in core (and upstream), where the unconditional context has as many tokens as the prompt: the U-Net's mean over
    tokens sees the padding.
    """
    every = [entry for entries in conds.values() for entry in entries if "cross_attn" in entry]
    longest = max((entry["cross_attn"].shape[1] for entry in every), default=0)
    for entry in every:
        context = entry["cross_attn"]
        mask = entry.get("attention_mask")
        mask = torch.ones(context.shape[:2]) if mask is None else mask.float()
        entry["cross_attn"] = _pad(context, (0, 0, 0, longest - context.shape[1]))
        entry["attention_mask"] = _pad(mask, (0, longest - mask.shape[1]))


def _pad(value: Tensor, amount: tuple[int, ...]) -> Tensor:
    return torch.nn.functional.pad(value, amount)


class ThreeWayGuider(comfy.samplers.CFGGuider):
    """1.1's guidance by text and first frame: what DualCFGGuider does, with core's arithmetic."""

    def predict_noise(self, x: Tensor, timestep: Tensor, model_options: Any = None, seed: int | None = None) -> Tensor:
        """The guided clean latents."""
        conds, options = [self.conds[name] for name in ("positive", "middle", "negative")], model_options or {}
        predictions = comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, options)
        for name in ("sampler_cfg_function", "sampler_calc_cond_batch_function", "sampler_pre_cfg_function"):
            if options.get(name):
                raise ValueError(
                    f"the model has a patch on guidance by two predictions ({name}), and this is by three: disconnect "
                    "it, or use FusionFrames Prepare First Frame with Dual CFG Guider"
                )
        guided = self.cfg.combine(predictions)
        for function in options.get("sampler_post_cfg_function", ()):  # as in ComfyUI's own guidance
            told = {"denoised": guided, "cond": conds[0], "uncond": conds[1], "cond_scale": 1 + self.cfg.text_weight}
            told |= {"cond_denoised": predictions[0], "uncond_denoised": predictions[1], "model": self.inner_model}
            guided = function({**told, "sigma": timestep, "model_options": options, "input": x})
        return guided


def text_guider(model: Any, conditionings: ConditioningPair, guidance: float) -> Any:
    """ComfyUI's plain guider: classifier-free guidance of weight w, which is ComfyUI's cfg − 1."""
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(conditionings.positive, conditionings.negative)
    guider.set_cfg(1 + guidance)
    return guider


def first_frame_guider(model: Any, conditionings: FirstFrameConditionings, guidance: TextImageGuidance) -> Any:
    """The three-way guider of keyframes that continue a first frame."""
    guider = ThreeWayGuider(model)
    guider.inner_set_conds(
        {
            "positive": conditionings.positive,
            "middle": conditionings.image_only,
            "negative": conditionings.negative,
        }
    )
    guider.set_cfg(guidance)
    return guider
