"""The U-Net that text-to-image, keyframe generation and interpolation share (paper, sections 4.1 and 4.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config import UNetConfig
from ...errors import named
from ...kernels.kernel_choice import takes_fused
from ..layers import LayerFactory, TorchOperations, without_bias
from ..layout import fold_frames, unfold_frames
from ..stage_memo import StageMemo, once
from ..temporal import NeutralNorm, TemporalPart
from .temporal_layers import TEMPORAL_BLOCKS
from .unet_blocks import AttentionPooling, DownLevel, Resample, UpLevel, through
from .unet_layers import ScalarEmbedding, TrunkCondition, TrunkHooks, UNetSpec


@dataclass
class KeyframeCondition:
    """What one forward of `UNet` is conditioned on."""

    context: Tensor  # (B, N, D)
    mask: Tensor  # (B, N) bool, True = attend
    positions: Tensor | None = None  # (B, T); needed unless the U-Net has no temporal parts or the frames are stills
    motion_score: Tensor | None = None  # (B,)
    noise_augmentation: Tensor | None = None  # (B,)
    image: bool = False  # True: the frames are stills; the image input layer (if any) and no temporal part
    hooks: TrunkHooks | None = None
    memo: StageMemo | None = None  # keeps what all steps of a stage have in common


class SeparateConditioning(nn.Module):
    """Official 1.0: temporal attention's norm sees the frame alone, the other temporal norms the time alone."""

    steady_attention_norm = True  # what temporal attention's norm sees is the same in all steps of a stage

    def __init__(self, spec: UNetSpec) -> None:
        super().__init__()

    def forward(self, time: Tensor, frame: Tensor, condition: KeyframeCondition) -> tuple[Tensor, Tensor]:
        """time (B, E), frame (B·T, E): what temporal norms see, and what temporal attention's first norm sees."""
        return F.silu(time), F.silu(frame)


class SumConditioning(SeparateConditioning):
    """Official 1.1: every temporal norm sees the sum of the time and the frame embedding."""

    steady_attention_norm = False

    def forward(self, time: Tensor, frame: Tensor, condition: KeyframeCondition) -> tuple[Tensor, Tensor]:
        total = F.silu(time.repeat_interleave(frame.shape[0] // time.shape[0], dim=0) + frame)
        return total, total


class MixedConditioning(TemporalPart):
    """Ours: the sum and the mean of the text, then a residual MLP: what a frame's number means may depend on words.

    The sum alone has the text as the frozen image model pooled it, which need not keep what only a video shows: "left"
    and "right" make the same pictures.
    """

    steady_attention_norm = False

    def __init__(self, spec: UNetSpec) -> None:
        super().__init__()
        width = spec.config.time_embed_dim
        self.text = spec.layers.linear(spec.config.context_dim, width)
        self.linear_in = spec.layers.linear(width, width)
        self.linear_out = spec.layers.linear(width, width)

    def forward(self, time: Tensor, frame: Tensor, condition: KeyframeCondition) -> tuple[Tensor, Tensor]:
        video = time + once(condition.memo, self, lambda: self.text(mean_text(condition)))
        total = video.repeat_interleave(frame.shape[0] // time.shape[0], dim=0) + frame
        total = F.silu(total + self.linear_out(F.silu(self.linear_in(F.silu(total)))))
        return total, total

    def zero_layers(self) -> list[nn.Module]:
        return [self.linear_out]


def mean_text(condition: KeyframeCondition) -> Tensor:
    """The mean (B, D) of the tokens that are attended."""
    attended = condition.mask[..., None].to(condition.context.dtype)
    return (condition.context * attended).sum(dim=1) / attended.sum(dim=1).clamp(min=1)


TEMPORAL_CONDITIONING: dict[str, Callable[[UNetSpec], nn.Module]] = {
    "separate": SeparateConditioning,
    "sum": SumConditioning,
    "mixed": MixedConditioning,
}
"""From time (B, E) and frame (B·T, E): what the temporal norms see, and what temporal attention's first norm sees."""


class Trunk(nn.Module):
    """Input convolution, down levels, up levels, output; the subclasses make the embeddings."""

    def __init__(self, spec: UNetSpec) -> None:
        super().__init__()
        config, layers, placement = spec.config, spec.layers, spec.placement
        check_levels(config)
        self.config = config
        self.to_time_embed = ScalarEmbedding(spec)
        self.feature_pooling = AttentionPooling(spec)
        self.in_layer = layers.conv2d(config.in_channels, config.init_channels, 3)
        self.temporal_in = placement.resampling_layer(config.init_channels, spec)
        widths = (config.init_channels, *(config.model_channels * mult for mult in config.channel_mult))
        lowest = len(widths) - 2  # the level of the lowest resolution: nothing below it to resample for or skip over
        downs, ups = [Resample.DOWN] * lowest + [Resample.NONE], [Resample.UP] * lowest + [Resample.NONE]
        skipped = [*widths[1 : lowest + 1], 0]
        self.down_samples = nn.ModuleList(
            DownLevel(widths[i], widths[i + 1], i, downs[i], spec) for i in range(lowest + 1)
        )
        self.up_samples = nn.ModuleList(
            UpLevel(widths[i + 1], skipped[i], widths[i], i, ups[i], spec) for i in reversed(range(lowest + 1))
        )
        self.temporal_out = placement.resampling_layer(config.init_channels, spec)
        self.out_layer = nn.Sequential(
            layers.group_norm(config.groups, config.init_channels),
            nn.SiLU(),  # the norm takes it along; it stands here for the names of the official weights
            layers.conv2d(config.init_channels, config.out_channels, 3),
        )

    def run_levels(self, x: Tensor, in_layer: nn.Module, condition: TrunkCondition) -> Tensor:
        """(B, in, T, H, W) to (B, out, T, H, W)."""
        factor = 2 ** (len(self.down_samples) - 1)
        if x.shape[3] % factor or x.shape[4] % factor:
            raise ValueError(f"latent height and width must be multiples of {factor}; got {tuple(x.shape[3:])}")
        frames = fold_frames(x).contiguous(memory_format=torch.channels_last)
        frames, bias = through(self.temporal_in, *without_bias(in_layer, frames), condition)
        hooks, skips = condition.hooks, []
        for index, level in enumerate(self.down_samples):
            skipped = frames = level(frames if index == 0 else unshared(frames), condition, bias)
            bias = None  # each level adds its own
            if hooks is not None:
                skipped, frames = hooks.after_down(index, frames)
            skips.append(skipped)
        skips.pop()  # the lowest level's output goes on as it is
        for index, level in enumerate(self.up_samples):
            if index:
                joined = (frames, skips.pop())
                frames = torch.cat(joined if hooks is None else hooks.before_up(index, *joined), dim=1)
            elif hooks is not None:
                frames = unshared(frames)  # a patch may keep what it returned
            frames = level(frames, condition)
        norm, _, convolution = self.out_layer
        out = convolution(norm(self.temporal_out(frames, condition), silu=True))
        return unfold_frames(out, condition.num_frames).contiguous()


class FrameEmbedding(TemporalPart):
    """Frame positions, and in 1.1 the motion score and the noise on the conditioning frame, embedded per frame."""

    def __init__(self, spec: UNetSpec) -> None:
        super().__init__()
        self.position = ScalarEmbedding(spec)
        self.motion_score = ScalarEmbedding(spec) if spec.config.motion_score else None
        self.noise_augmentation = ScalarEmbedding(spec) if spec.config.noise_augmentation else None

    def forward(self, condition: KeyframeCondition, dtype: torch.dtype) -> Tensor:
        """(B·T, E) in `dtype`. Raises ValueError without positions."""
        positions = condition.positions
        if positions is None:
            raise ValueError("positions must be given, as (B, T), for a video U-Net; or set image=True for stills")
        frame = self.position(positions.flatten(), dtype)
        for embed, value in (
            (self.noise_augmentation, condition.noise_augmentation),
            (self.motion_score, condition.motion_score),
        ):
            if embed is not None and value is not None:
                frame = frame + embed(value, dtype).repeat_interleave(positions.shape[1], dim=0)
        return frame

    def zero_layers(self) -> list[nn.Module]:
        """None: only temporal parts see the embedding, and they are identities themselves."""
        return []


class UNet(Trunk):
    """The text-to-image U-Net (`temporal` "none") and, with temporal parts, the keyframe U-Net."""

    def __init__(
        self,
        config: UNetConfig,
        operations: Any = TorchOperations,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Raises ValueError for a choice that the tables do not know, and for sizes that do not fit together."""
        placement = named(TEMPORAL_BLOCKS, "temporal", config.temporal)
        spec = UNetSpec(config, LayerFactory(operations, device, dtype), placement)
        super().__init__(spec)
        conditioning = named(TEMPORAL_CONDITIONING, "temporal_conditioning", config.temporal_conditioning)
        self.combine = conditioning(spec) if placement.frame_positions else None
        self.frame_embedding = FrameEmbedding(spec) if placement.frame_positions else None
        image_layer = spec.layers.conv2d(config.in_channels, config.init_channels, 3) if config.image_input else None
        self.image_in_layer = image_layer

    def forward(self, x: Tensor, t: Tensor, condition: KeyframeCondition) -> Tensor:
        """Predict from noisy latents x (B, in, T, h, w) at times t (B,): (B, out, T, h, w)."""
        mask = condition.mask[:, None, None, :]
        time = self.feature_pooling(self.to_time_embed(t, x.dtype), condition.context, mask, condition.memo)
        temporal_norms = attention_norm = None
        if self.frame_embedding is not None and self.combine is not None and not condition.image:
            embed = self.frame_embedding
            frame = once(condition.memo, embed, lambda: embed(condition, x.dtype))
            temporal_norms, attention_norm = self.combine(time, frame, condition)
        # 1.1 has an input layer for stills; its code takes that one in calls of at most two frames, whatever they are.
        in_layer = self.image_in_layer if condition.image and self.image_in_layer is not None else self.in_layer
        trunk_condition = TrunkCondition(
            num_frames=x.shape[2],
            temporal=temporal_norms is not None,
            time=F.silu(time),
            temporal_norms=temporal_norms,
            temporal_attention_norm=attention_norm,
            context=condition.context,
            mask=mask,
            hooks=condition.hooks,
            memo=condition.memo,
            steady_attention_norm=self.combine is not None and self.combine.steady_attention_norm,
        )
        return self.run_levels(x, in_layer, trunk_condition)


def unshared(frames: Tensor) -> Tensor:
    """A level's input that nobody else holds, since its blocks may write over it where fused kernels run: a skip
    connection or a host's patch holds it too."""
    return frames.clone() if takes_fused(frames) else frames


def check_levels(config: UNetConfig) -> None:
    """Raise ValueError for sizes that do not fit together (widths are checked where they are used)."""
    levels = len(config.channel_mult)
    for name in ("num_blocks", "cross_attention", "self_attention"):
        if len(getattr(config, name)) != levels:
            raise ValueError(f"{name} must have one entry per channel_mult ({levels}); got {getattr(config, name)}")
    if min(config.num_blocks) < 2:
        raise ValueError(f"num_blocks must be at least 2 on every level; got {config.num_blocks}")


def initialise(unet: Trunk) -> None:
    """Start values for training from scratch: every norm begins neutral (zero scale and shift)."""
    for module in unet.modules():
        if isinstance(module, NeutralNorm):
            module.make_neutral()
