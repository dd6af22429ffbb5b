"""Our stages with random weights, made where they run: no file is read, and on the meta device no memory is taken.

Each is what one sampling step of a video costs (all predictions and their guidance), or the decoding of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness import Work
from benchmarks.official_stages import TOKENS, randomise
from fusionframes_core.checkpoints.component import build
from fusionframes_core.config import ModelConfig, UNetConfig
from fusionframes_core.models.layout import channels_last
from fusionframes_core.models.text_encoder import TextContext
from fusionframes_core.models.unet.keyframe_unet import frame_positions
from fusionframes_core.models.unet.merged_layers import MIXED
from fusionframes_core.models.unet.unet import KeyframeCondition
from fusionframes_core.presets import KANDINSKY_VIDEO_1_0, KANDINSKY_VIDEO_1_1
from fusionframes_core.sampling.guidance import GuidedModel, TextGuidance, TextImageGuidance
from fusionframes_core.sampling.interpolation_sampling import guided_interpolation
from fusionframes_core.sampling.noise import stage_noise
from fusionframes_core.sampling.options import ContextPair, InterpolationOptions, SamplingOptions
from fusionframes_core.sampling.stage_sampler import StageSampler

SMALL_TRUNK: dict[str, Any] = {"model_channels": 32, "init_channels": 32, "time_embed_dim": 64, "context_dim": 48}
SMALL_TRUNK |= {"groups": 8, "head_dim": 16}


@dataclass(frozen=True)
class Extent:
    """How large the inputs are."""

    frames: int  # keyframes, and groups of an interpolation step
    side: int  # height and width of the latents
    decoded: int  # frames of a chunk
    small: bool  # models of few channels


FULL = Extent(frames=16, side=64, decoded=8, small=False)  # 512×512 pixels
SMALL = Extent(frames=3, side=8, decoded=2, small=True)


@dataclass(frozen=True)
class Place:
    """Where a stage runs, and in which type."""

    device: str
    dtype: torch.dtype


@dataclass(frozen=True)
class OurStage:
    """One row of the tables: `work(model, config, extent, place)` is one run; `part` names the model's config."""

    name: str
    config: ModelConfig
    part: str
    work: Callable[[nn.Module, ModelConfig, Extent, Place], Work]

    def sized(self, extent: Extent) -> ModelConfig:
        return shrunk(self.config) if extent.small else self.config

    def build(self, extent: Extent, place: Place) -> tuple[nn.Module, Work]:
        """The model, and one run of the stage with it."""
        config = self.sized(extent)
        model = random_model(getattr(config, self.part), place)
        return model, self.work(model, config, extent, place)


def shrunk(config: ModelConfig) -> ModelConfig:
    """The same architecture with few channels, for a CPU."""

    def trunk(unet: UNetConfig) -> UNetConfig:
        return replace(unet, **SMALL_TRUNK)

    return replace(
        config,
        keyframe=trunk(config.keyframe),
        interpolation=replace(config.interpolation, trunk=trunk(config.interpolation.trunk)),
        movq=replace(config.movq, channels=16, groups=8),
    )


def random_model(config: Any, place: Place) -> nn.Module:
    """A model in evaluation mode whose parts all matter, initialised on its device."""
    with torch.device(place.device):
        model = build(config, device=place.device, dtype=place.dtype)
    if place.device != "cpu":
        channels_last(model)  # as loading a component does
    return (model if place.device == "meta" else randomise(model)).eval().requires_grad_(False)


def text(config: UNetConfig, place: Place) -> TextContext:
    """A random prompt of TOKENS tokens."""
    context = torch.randn(1, TOKENS, config.context_dim, device=place.device, dtype=place.dtype)
    return TextContext(context, torch.ones(1, TOKENS, device=place.device, dtype=torch.bool))


def latents(extent: Extent, place: Place, frames: int, channels: int = 4) -> Tensor:
    """Random latents (1, C, T, h, w), float32."""
    return torch.randn(1, channels, frames, extent.side, extent.side, device=place.device)


def keyframe_step(model: nn.Module, config: ModelConfig, extent: Extent, place: Place) -> Work:
    """Two predictions in 1.0; three in 1.1, which sees an image."""
    prompt, count = text(config.keyframe, place), extent.frames
    positions = frame_positions(config.frame_positions, count, device=place.device)[None]
    condition = KeyframeCondition(prompt.context, prompt.mask, positions)
    time = torch.full((1,), 500, device=place.device)
    x = latents(extent, place, count)
    if not config.keyframe.image_input:
        guided = GuidedModel(model, TextGuidance(config.guidance), [condition] * 2)
        return lambda: guided(x, time)
    level = torch.full((1,), 10.0, device=place.device)
    shown = latents(extent, place, count, channels=5)
    condition = replace(condition, motion_score=level, noise_augmentation=level)
    guided = GuidedModel(model, TextImageGuidance(config.guidance, 1.0), [condition] * 3, [shown] * 3)
    return lambda: guided(x, time)


def interpolation_step(model: Any, config: ModelConfig, extent: Extent, place: Place) -> Work:
    """The prediction from keyframes and the one without."""
    keyframes = latents(extent, place, extent.frames + 1)
    x = latents(extent, place, extent.frames, channels=12)
    texts = ContextPair(*[text(config.keyframe, place)] * 2)
    options = SamplingOptions(steps=10, guidance=config.interpolation_guidance)
    sampler = StageSampler(config.interpolation_schedule, options, stage_noise(0, "benchmark", 1, place.device))
    guided = guided_interpolation(model, keyframes, texts, InterpolationOptions(), sampler, config.drop_temporal)
    if place.device == "meta":  # has no numbers to read them from
        for _, condition, _ in guided.calls:
            condition.memo.once(MIXED, lambda: [True, not config.drop_temporal])
    time = torch.full((1,), 500, device=place.device)
    return lambda: guided(x, time)


def decode_chunk(model: Any, config: ModelConfig, extent: Extent, place: Place) -> Work:
    """`extent.decoded` frames at once."""
    chunk = latents(extent, place, extent.decoded).to(place.dtype)
    return lambda: model.decode(chunk)


OUR_STAGES = (
    OurStage("guided keyframe step 1.0", KANDINSKY_VIDEO_1_0, "keyframe", keyframe_step),
    OurStage("keyframe step 1.1, 3 predictions", KANDINSKY_VIDEO_1_1, "keyframe", keyframe_step),
    OurStage("interpolation step 1.0", KANDINSKY_VIDEO_1_0, "interpolation", interpolation_step),
    OurStage("interpolation step 1.1", KANDINSKY_VIDEO_1_1, "interpolation", interpolation_step),
    OurStage("decode a chunk, image", KANDINSKY_VIDEO_1_0, "movq", decode_chunk),
    OurStage("decode a chunk, conv3_attn", KANDINSKY_VIDEO_1_1, "movq", decode_chunk),
)
