"""The stages as the accounting plans them, from what their configurations say; no weights are read."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from fusionframes_core.config import ModelConfig

from ..engine.run_settings import TrainSettings
from ..moving_shapes.clips import WINDOW
from ..objectives.adapters import AdapterSettings, LoraModel, layers_named
from ..objectives.base_weights import BASES, counted_base
from .card_memory import PlannedStage, Setting
from .network_steps import (
    ClipShape,
    NetworkStep,
    decoder_step,
    interpolation_step,
    keyframe_step,
    with_network,
)

SECTION_5_SIZE = (256, 256)
"""Pixels of a clip of the interpolation and of the decoder stage."""


def setting_of(train: TrainSettings, base: str = "fp32") -> Setting:
    """What of a run's settings decides its memory."""
    return Setting(
        train.batch_size,
        train.accumulation,
        str(train.mixed_precision),
        train.activation_checkpointing,
        getattr(train, "frozen", "same"),
        train.optimizer,
        train.shard,
        base,
    )


def plan_keyframes(
    config: ModelConfig, train: TrainSettings, size: tuple[int, int] | None = None, parts: str = "temporal"
) -> PlannedStage:
    """Temporal parts over the frozen image U-Net, or all of it, at the model's own size or `size` in pixels."""
    step = keyframe_step(config, ClipShape.of(config, config.num_frames, size), parts=parts)
    return PlannedStage("keyframes", setting_of(train), lambda base: step, train.steps)


def plan_interpolation(
    config: ModelConfig, train: TrainSettings, window: int = WINDOW, size: tuple[int, int] | None = None
) -> PlannedStage:
    """The whole interpolation U-Net, on windows at 256×256 (section 5), or the model's size where that is smaller."""
    step = interpolation_step(config, ClipShape.of(config, window, size or min(SECTION_5_SIZE, config.size)))
    return PlannedStage("interpolation", setting_of(train), lambda base: step, train.steps)


def plan_decoder(
    config: ModelConfig, train: TrainSettings, frames: int, parts: str, size: tuple[int, int] | None = None
) -> PlannedStage:
    """The decoder, likewise, on sequences of frames."""
    step = decoder_step(config, frames, size or min(SECTION_5_SIZE, config.size), parts)
    return PlannedStage("decoder", setting_of(train), lambda base: step, train.steps)


@dataclass(frozen=True)
class LoraPlan:
    """What of a LoRA stage decides its step."""

    part: str
    adapters: AdapterSettings
    layers: str = "all"
    targets: tuple[str, ...] | None = None
    base: str = "fp32"
    size: tuple[int, int] | None = None  # in pixels; None: the model's
    stills: bool = False  # a still of each clip trains beside it

    def stage(self, config: ModelConfig, train: TrainSettings) -> PlannedStage:
        """Adapters over a base that is kept in one of several ways."""
        frames = config.num_frames if self.part == "keyframe" else WINDOW
        shape = ClipShape.of(config, frames, self.size)
        keyframes = self.part == "keyframe"
        plain = keyframe_step(config, shape, self.stills) if keyframes else interpolation_step(config, shape)

        def build(base: str) -> nn.Module:
            unet = counted_base(getattr(config, self.part), BASES[base])
            return LoraModel(unet, self.adapters, layers_named(unet, self.layers, self.targets))

        def step(base: str) -> NetworkStep:
            return replace(with_network(plain, lambda: build(base)), name=f"LoRA of the {self.part} U-Net")

        setting = setting_of(train, self.base)
        return PlannedStage(f"LoRA of the {self.part} U-Net", setting, step, train.steps, cards=1, has_base=True)
