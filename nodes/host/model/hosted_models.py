"""Our U-Nets as ComfyUI's MODEL: conditions, guidance limits and noise schedules around a network of `networks`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import comfy.model_management as management
import torch
from comfy import conds, model_base, supported_models_base
from torch import Tensor

from ....fusionframes_core.checkpoints.checkpoint_info import TEXT_PREFIX
from ....fusionframes_core.checkpoints.embedded_config import CONFIG_TENSOR, config_tensor
from ....fusionframes_core.config import ModelConfig, ScheduleConfig
from ....fusionframes_core.models.unet.interpolation_unet import merge_groups, split_groups
from ....fusionframes_core.sampling.interpolation_sampling import perturb
from ....fusionframes_core.sampling.noise import stage_noise
from ....fusionframes_core.sampling.thresholding import threshold_x0
from ....fusionframes_core.settings import MOTION_SCORES, spatial_factor
from ..comfy.preview_images import VideoLatents
from ..sampling.sigmas import model_sampling, sampling_settings
from .networks import InterpolationNetwork, KeyframeNetwork
from .shared_conds import SharedVideo, SteadyText

NULL_EMBEDDING = f"{TEXT_PREFIX}null_embedding"  # in a saved file
DEFAULT_SCORES = {"motion_score": MOTION_SCORES["medium"], "noise_augmentation": 0}
# Tensors held at once, in sizes of the trunk's first level over the latents: 9.9 and 2.4 in 1.1, 19.5 and 4.7 in tiny
# (tests/host/test_memory.py), and a quarter more.
WORKING = {"keyframe": 24.5, "interpolation": 5.9}
SETTINGS = "fusionframes"  # key of a CONDITIONING's options: what our nodes add, a dict

_TYPES = {"epsilon": model_base.ModelType.EPS, "v": model_base.ModelType.V_PREDICTION}


@dataclass(frozen=True)
class Hosting:
    """What a MODEL is made of beside its weights."""

    config: ModelConfig
    null_embedding: Tensor  # (D,): the unconditional context's first token
    latents: VideoLatents
    dtype: torch.dtype  # of the weights
    cast: torch.dtype | None  # what they are computed in, where the device cannot compute in `dtype`
    device: Any = "meta"  # the weights come later, by assignment


class _Supported(supported_models_base.BASE):
    """What ComfyUI asks a kind of model for."""

    unet_extra_config: ClassVar[dict[str, Any]] = {}
    latent_format = dict  # replaced at once

    def __init__(self, hosting: Hosting, schedule: ScheduleConfig, network: dict[str, Any]) -> None:
        super().__init__(network)
        self.latent_format = hosting.latents
        self.sampling_settings = sampling_settings(schedule)
        self.set_inference_dtype(hosting.dtype, hosting.cast)


class VideoModel(model_base.BaseModel, ABC):
    """What keyframes and interpolation have in common.

    `working_bytes` is what a position of the latents takes while the network works, for each byte of the type.
    `component` names which component of a model it is.
    """

    component: ClassVar[str]

    def __init__(
        self, hosting: Hosting, schedule: ScheduleConfig, network: Any, working_bytes: float, **options: Any
    ) -> None:
        supported = _Supported(hosting, schedule, options)
        kind = _TYPES.get(schedule.prediction, model_base.ModelType.EPS)
        super().__init__(supported, kind, device=hosting.device, unet_model=network)
        self.config, self.schedule, self.working_bytes = hosting.config, schedule, working_bytes
        self.null_embedding = hosting.null_embedding
        # FreeU scales levels of 2 and 4 times this many channels: Stable Diffusion's two lowest that join a skip.
        trunk = self.diffusion_model.config
        self.model_config.unet_config["model_channels"] = trunk.model_channels * trunk.channel_mult[-2] // 4
        self.model_sampling = model_sampling(schedule)

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        """The text's context and mask; see `networks` for what else the networks take."""
        context, mask = self._text(kwargs.get("cross_attn"), kwargs.get("attention_mask"))
        # CONDCrossAttn would repeat a context without its mask; of different lengths they run one after the other.
        text = conds.CONDRegular(context)
        if kwargs.get("hooks") is None:  # which may change the weights from step to step
            text = SteadyText(context.to(kwargs.get("device"), self.get_dtype_inference()))
        return {"c_crossattn": text, "attention_mask": conds.CONDRegular(mask.float())}

    def _text(self, context: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """(1, N, D) and (1, N); no context, or one of zeros (ConditioningZeroOut), becomes the null context."""
        width = self.null_embedding.shape[0]
        if context is not None and context.shape[-1] != width:
            raise ValueError(
                f"the conditioning is {context.shape[-1]} numbers wide, {self.config.name} reads {width}: encode the "
                "prompt with the CLIP of the same FusionFrames model"
            )
        if context is None or not context.any():
            tokens = 2 if context is None else context.shape[1]
            null = torch.zeros(1, tokens, width)
            null[:, 0] = self.null_embedding
            return null, torch.arange(tokens)[None] == 0
        if mask is None:
            return context, torch.ones(context.shape[:2])
        missing = context.shape[1] - mask.shape[1]
        return context, torch.nn.functional.pad(mask.float(), (0, missing), value=1.0)

    def state_dict_for_saving(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """What saving nodes write, with the model's configuration and the null embedding, to be loaded again."""
        saved = super().state_dict_for_saving(*args, **kwargs)
        return {**saved, CONFIG_TENSOR: config_tensor(self.config), NULL_EMBEDDING: self.null_embedding}

    def resize_cond_for_context_window(
        self, cond_key: str, cond_value: Any, window: Any, x_in: Tensor, device: Any, retain_index_list: Any = ()
    ) -> Any:
        """Only what has the noise's shape has frames; a context may be as wide as a video is long."""
        if isinstance(cond_value, conds.CONDNoiseShape):
            return cond_value._copy_with(window.get_tensor(cond_value.cond, device, dim=2))
        return cond_value

    @property
    def pixels_per_latent(self) -> int:
        """Along height and along width."""
        return spatial_factor(self.config.movq)

    def memory_required(self, input_shape: Any, cond_shapes: Any = None) -> float:
        """Bytes that one prediction for latents (B, 4, T, h, w) takes beside the weights."""
        positions = input_shape[0] * math.prod(input_shape[2:])
        return positions * self.working_bytes * management.dtype_size(self.get_dtype_inference())

    @abstractmethod
    def limit(self, x0: Tensor) -> Tensor:
        """Keep guided clean latents (B, 4, T, h, w) in range, as the model's official sampling does."""


class KeyframeModel(VideoModel):
    """Noise to keyframes; 1.1's continue a first frame, which the conditioning's settings bring."""

    component = "keyframe"

    def __init__(self, hosting: Hosting) -> None:
        config = hosting.config
        options = {"config": config.keyframe, "positions": config.frame_positions}
        room = WORKING["keyframe"] * config.keyframe.model_channels
        super().__init__(hosting, config.keyframe_schedule, KeyframeNetwork, room, **options)

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        """Also the first frame and 1.1's scores."""
        unet, settings = self.config.keyframe, kwargs.get(SETTINGS) or {}
        seen = super().extra_conds(**kwargs)
        if unet.image_input:
            still = bool(settings.get("still")) or unet.temporal == "none"
            # "video": as long as the video, so that context windows cut it as they cut the latents.
            seen["video"] = conds.CONDNoiseShape(shown_frame(kwargs["noise"], settings.get("first")))
            seen["still"] = conds.CONDConstant(still)
        for name in ("motion_score", "noise_augmentation"):
            if getattr(unet, name):
                seen[name] = conds.CONDRegular(torch.full((1, 1), float(settings.get(name, DEFAULT_SCORES[name]))))
        return seen

    def limit(self, x0: Tensor) -> Tensor:
        return threshold_x0(x0, self.schedule.threshold_quantile)


def shown_frame(noise: Tensor, first: Tensor | None) -> Tensor:
    """1.1's other five channels (1, 5, T, h, w): the first frame's latent and where it is; zeros without one.

    Raises ValueError when the first frame has another size than the video.
    """
    shown = torch.zeros(1, 5, *noise.shape[2:])
    if first is not None:
        if first.shape[-2:] != noise.shape[-2:]:
            sizes = [f"{shape[-1]}×{shape[-2]}" for shape in (first.shape, noise.shape)]
            raise ValueError(
                f"the first frame's latents are {sizes[0]} and the video's {sizes[1]}: prepare it for the same width "
                "and height"
            )
        shown[:, :4, :1] = first
        shown[:, 4, 0] = 1.0
    return shown


class InterpolationModel(VideoModel):
    """Keyframes to the frames between them, on latents of 4G + 1 frames whose every fourth frame is given.

    `latent_image` holds the given frames; between them it holds anything (our nodes: the linear blend).
    """

    component = "interpolation"

    def __init__(self, hosting: Hosting) -> None:
        config = hosting.config
        room = WORKING["interpolation"] * config.interpolation.trunk.model_channels
        options = {"config": config.interpolation}
        super().__init__(hosting, config.interpolation_schedule, InterpolationNetwork, room, **options)

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        """Also the given frames, perturbed as the conditioning's settings say, by the sampler's seed."""
        video, settings = interpolation_latents(kwargs.get("latent_image")), kwargs.get(SETTINGS) or {}
        informed = settings.get("informed", kwargs.get("prompt_type") != "negative")
        level = settings.get("perturbation", 0)
        if level and self.config.interpolation.fixed_perturbation is not None:
            raise ValueError(f"noise_augmentation must be 0 for {self.config.name}, which knows no other; got {level}")
        text = kwargs if self.config.interpolation_text else {}
        numbers = {
            "informed": float(informed),
            "temporal": float(informed or not self.config.drop_temporal),
            "skip_frames": float(settings.get("skip_frames", 3)),
            "perturbation": float(level),
        }
        videos = {"video": video}
        if level:
            given = given_frames(video, level, kwargs.get("seed") or 0, self.schedule)
            # As long as the video, so that context windows cut it as they cut the latents.
            videos["given"] = given.repeat_interleave(4, dim=2)[:, :, 3:]
        return {
            **super().extra_conds(**text),
            **{name: SharedVideo(value) for name, value in videos.items()},
            **{name: conds.CONDRegular(torch.full((1, 1), value)) for name, value in numbers.items()},
        }

    def _apply_model(
        self, x: Tensor, t: Tensor, *args: Any, video: Tensor, given: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        """The clean video for x (B, 4, 4G + 1, h, w); what the network knows is x's difference from a base.

        ComfyUI's context windows may bring one frame more, before the first: it has no neighbours here and is dropped.
        """
        seen = video if given is None else given
        if x.shape[2] % 4 == 2:
            rest = self._apply_model(x[:, :, 1:], t, *args, video=video[:, :, 1:], given=seen[:, :, 1:], **kwargs)
            return torch.cat([x[:, :, :1], rest], dim=2)
        keyframes, sampling = video[:, :, ::4], self.model_sampling
        # The network subtracts the base from its own inputs: x - base here would be a copy that is held all the while.
        more = {"given": seen[:, :, ::4], "keyframes": keyframes, "scale_input": partial(sampling.calculate_input, t)}
        x0 = super()._apply_model(x, t, *args, **more, **kwargs)
        # Clean latents are linear in x, of which the base's part is exchanged for the base.
        base = merge_groups(keyframes, self.diffusion_model.base(keyframes))
        x0 += base
        x0 -= sampling.calculate_denoised(t, torch.zeros_like(base), base)
        x0[:, :, ::4] = keyframes
        return x0

    def limit(self, x0: Tensor) -> Tensor:
        """As core: by groups of three frames; the given ones stay."""
        keyframes, groups = split_groups(x0)
        return merge_groups(keyframes, threshold_x0(groups, self.schedule.threshold_quantile))


def interpolation_latents(video: Tensor | None) -> Tensor:
    """The latents (B, 4, 4G + 1, h, w). Raises ValueError unless they have given frames at every fourth place."""
    if video is not None and video.ndim == 5 and video.shape[2] >= 5 and video.shape[2] % 4 == 1 and bool(video.any()):
        return video
    shape = "nothing" if video is None else f"{tuple(video.shape)}{'' if video.any() else ', empty'}"
    raise ValueError(
        f"the interpolation model takes latents [B, 4, 4T - 3, h, w] with keyframes at every fourth frame; got "
        f"{shape}. Use FusionFrames Interpolate, or put FusionFrames Prepare Interpolation before the sampler"
    )


def interpolation_stage(video: Tensor) -> str:
    """The stage whose noise a seed means, for latents of 4T − 3 frames; core names it by T."""
    return f"interpolation of {(video.shape[2] + 3) // 4}"


def given_frames(video: Tensor, level: int, seed: int, schedule: ScheduleConfig) -> Tensor:
    """What the network sees of the given frames: (B, 4, G + 1, h, w) after `level` steps of noise."""
    frames = video[:, :, ::4]
    return perturb(frames, level, schedule, stage_noise(seed, interpolation_stage(video), len(frames), frames.device))
