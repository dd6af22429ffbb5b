"""Keyframes (paper, section 4.1): the frames of a clip, 12 base frames apart, denoised together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from fusionframes_core.models.text_encoder import TextContext
from fusionframes_core.models.unet.keyframe_unet import frame_positions
from fusionframes_core.models.unet.unet import KeyframeCondition

from ..data.sources import Drawn, ShapesSource
from ..engine.nested import split_batch
from ..evaluation.motion_gap import motion_gap
from .denoising import CaptionedObjective
from .held_out import device_of

GAP_CLIPS = 44  # at most, that the motion gap is measured on


@dataclass(frozen=True)
class KeyframeObjective(CaptionedObjective):
    """Denoising of as many keyframes as the model was made for."""

    least_weight: float = 0.1

    @cached_property
    def frame_positions(self) -> Tensor:
        """Times (T,) of the keyframes."""
        return frame_positions(self.config.frame_positions, self.config.num_frames)

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Clips' keyframes."""
        return self.source.keyframes(rng, self.batch_size, self.config.num_frames)

    def positions(self, latents: Tensor) -> Tensor:
        """The same times for every clip."""
        return self.frame_positions.to(latents.device).expand(len(latents), -1)

    def motion_gap(self, held_out: ShapesSource, model: nn.Module) -> dict[str, float]:
        """How much more the right caption helps the model than the opposite motion's, see `evaluation.motion_gap`.

        Of Moving Shapes alone the captions are known, and what is their opposite.
        """

        device = device_of(model)

        def predict(x: Tensor, t: Tensor, text: TextContext) -> Tensor:
            found = []
            for (some, times, words), _ in split_batch((x, t, text.to(device)), self.batch_size):
                condition = KeyframeCondition(words.context, words.mask, self.positions(some))
                found.append(model(some, times, condition))
            return torch.cat(found)

        latents, scenes = held_out.clips.latents[:GAP_CLIPS].to(device).float(), held_out.clips.scenes[:GAP_CLIPS]
        noise, prediction = torch.Generator().manual_seed(0), self.config.keyframe_schedule.prediction
        return motion_gap(predict, latents, scenes, held_out.encoder, self.schedule, noise, prediction)
