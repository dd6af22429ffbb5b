"""Our U-Nets as ComfyUI's `diffusion_model`: the same modules and weight names, with its forward and its hooks."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from typing import Any

import torch
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers
from torch import Tensor

from ....fusionframes_core.config import InterpolationConfig, UNetConfig
from ....fusionframes_core.models.stage_memo import StageMemo
from ....fusionframes_core.models.unet.interpolation_unet import (
    GROUP_FRAMES,
    InterpolationCondition,
    InterpolationUNet,
    merge_groups,
)
from ....fusionframes_core.models.unet.keyframe_unet import frame_positions
from ....fusionframes_core.models.unet.unet import KeyframeCondition, UNet
from .attention_patches import Patches, attention_places
from .operations import hosted

LATENT_CHANNELS = 4  # of a video, which is what stock guidances ask a network's `in_channels` for


class Memos:
    """What the steps of a sampling have in common, by their context: it lives as long as the context's tensor does.

    `shared_conds.SteadyText` gives every step the same tensor. Whoever changes the text brings another one.
    """

    def __init__(self) -> None:
        self._kept: dict[Any, tuple[weakref.ref[Tensor], StageMemo]] = {}

    def of(self, context: Tensor, x: Tensor) -> StageMemo | None:
        """The memo of a context and of latents of that shape and type; the compiler traces without one."""
        if torch.compiler.is_compiling():
            return None
        key = (id(context), x.shape, x.dtype, x.device)
        seen, memo = self._kept.get(key, (None, None))
        if seen is None or seen() is not context:
            memo = StageMemo()
            self._kept[key] = weakref.ref(context, lambda _: self._kept.pop(key, None)), memo
        return memo


class Wrapped(ABC):
    """What ComfyUI calls: `denoise` inside the wrappers that EasyCache and others hang on a model."""

    def forward(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        control: Any = None,
        transformer_options: dict[str, Any] | None = None,
        **conditions: Any,
    ) -> Tensor:
        """x (B, C, T, h, w) at the network's times (B,); `conditions` are what the model's `extra_conds` made."""
        options = transformer_options or {}
        wrappers = get_all_wrappers(WrappersMP.DIFFUSION_MODEL, options)
        executor = WrapperExecutor.new_class_executor(self.denoise, self, wrappers)
        return executor.execute(x, timestep, context, control, options, **conditions)

    @abstractmethod
    def denoise(self, *inputs: Any, **conditions: Any) -> Tensor:
        """The network's prediction, without the wrappers."""


class KeyframeNetwork(Wrapped, UNet):  # type: ignore[misc]  # its forward is what ComfyUI calls, not the U-Net's own
    """The keyframe U-Net."""

    def __init__(
        self, config: UNetConfig, positions: str, dtype: torch.dtype, device: Any = None, operations: Any = None
    ) -> None:
        UNet.__init__(self, config, operations=hosted(operations), device=device, dtype=dtype)
        self.positions, self.dtype, self.places, self.memos = positions, dtype, attention_places(self), Memos()
        self.in_channels = LATENT_CHANNELS

    def denoise(
        self, x: Tensor, timestep: Tensor, context: Tensor, control: Any, options: dict[str, Any], **conditions: Any
    ) -> Tensor:
        """Without the wrappers.

        `conditions`: attention_mask (B, N), and 1.1's: scores (B, 1), the first frame in video (B, 5, T, h, w), and
        still: whether the frames are stills.
        """
        names = ("motion_score", "noise_augmentation")
        scores = {name: conditions[name].flatten() for name in names if name in conditions}
        if "video" in conditions:
            x = torch.cat([x, conditions["video"].to(x.dtype)], dim=1)
        # In a context window positions count from the window's first frame: a model has seen no more of them than its
        # training clips had, so that each window is a clip of its own and the overlaps join them.
        positions = frame_positions(self.positions, x.shape[2], device=x.device).expand(x.shape[0], -1)
        seen = KeyframeCondition(context, conditions["attention_mask"] > 0.5, positions=positions, **scores)
        seen.image = conditions.get("still", False)
        seen.hooks, seen.memo = Patches(self, self.places, options, x), self.memos.of(context, x)
        return UNet.forward(self, x, timestep, seen)


class InterpolationNetwork(Wrapped, InterpolationUNet):  # type: ignore[misc]  # as above
    """The interpolation U-Net on whole videos [B, 4, 4G + 1, h, w], so that latents look like latents everywhere."""

    def __init__(
        self, config: InterpolationConfig, dtype: torch.dtype, device: Any = None, operations: Any = None
    ) -> None:
        InterpolationUNet.__init__(self, config, operations=hosted(operations), device=device, dtype=dtype)
        self.dtype, self.places, self.memos = dtype, attention_places(self), Memos()
        self.in_channels = LATENT_CHANNELS

    def denoise(
        self, x: Tensor, timestep: Tensor, context: Tensor, control: Any, options: dict[str, Any], **conditions: Any
    ) -> Tensor:
        """The prediction for every frame but the given ones, where it is zero, of x's difference from a base.

        `conditions`: attention_mask (B, N), keyframes, which the base is made of, and given, what is seen of them (both
        (B, 4, G + 1, h, w)), scale_input, which brings the base to the scale of x, and per video (B, 1) informed (0:
        the unconditional half of context guidance), temporal, skip_frames, perturbation.
        """
        informed = conditions["informed"].flatten()
        seen = InterpolationCondition(
            keyframes=conditions["given"] * informed.view(-1, 1, 1, 1, 1),
            context=context,
            mask=conditions["attention_mask"] > 0.5,
            skip_frames=conditions["skip_frames"].flatten().long(),
            perturbation=conditions["perturbation"].flatten(),
            temporal=conditions["temporal"].flatten() > 0.5,
            hooks=Patches(self, self.places, options, x[:, :, 1::4]),
            memo=self.memos.of(context, x),
        )
        missing = [x[:, :, place::4] for place in range(1, 1 + GROUP_FRAMES)]  # `split_groups` would be a copy more
        inputs = torch.cat((seen.keyframes[:, :, :-1], *missing, seen.keyframes[:, :, 1:]), dim=1)
        inputs[:, x.shape[1] : -x.shape[1]] -= conditions["scale_input"](self.base(conditions["keyframes"]))
        return merge_groups(torch.zeros_like(x[:, :, ::4]), self.predict(inputs, timestep, seen))
