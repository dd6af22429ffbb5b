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
from ..engine.objective import Batch
from ..evaluation.motion_gap import motion_gap
from .denoising import CaptionedObjective, check_share
from .held_out import device_of

GAP_CLIPS = 44  # at most, that the motion gap is measured on
MISORDERED_FROM = 0.45  # of the times; below, every frame's own pose is settled
TURN_BACK = 0.2  # share of the frames after which a wandering order goes the other way


def wandering_order(rng: np.random.Generator, frames: int) -> Tensor:
    """Frame numbers (frames,) that go on by 0, 1 or 2 from any start, now forwards, now backwards, round and round."""
    direction = np.where(rng.random(frames) < TURN_BACK, -1, 1).cumprod() * rng.choice((-1, 1))
    steps = direction * rng.choice((0, 1, 1, 1, 2), size=frames)
    return torch.from_numpy((rng.integers(frames) + steps.cumsum()) % frames)


@dataclass(frozen=True)
class KeyframeObjective(CaptionedObjective):
    """Denoising of as many keyframes as the model was made for."""

    least_weight: float = 0.1
    misordered_share: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("misordered_share", self.misordered_share)

    @cached_property
    def frame_positions(self) -> Tensor:
        """Times (T,) of the keyframes."""
        return frame_positions(self.config.frame_positions, self.config.num_frames)

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Clips' keyframes."""
        return self.source.keyframes(rng, self.batch_size, self.config.num_frames)

    def make_batch(self, rng: np.random.Generator) -> Batch:
        """With a `misordered_share` also `shown`, latents like `latents`: what the noisy input is made of.

        Which way a shape turns is said by the text and by the frames' positions, but the image weights read each
        frame's angle from its own noise: in sampling such angles go to and fro, which true clips never do. So some
        clips show their frames in a wrong order, and their true order has to be found.
        """
        batch = super().make_batch(rng)
        if not self.misordered_share:
            return batch
        return {**batch, "shown": self._shown(rng, batch["latents"], batch["t"])}

    def _shown(self, rng: np.random.Generator, latents: Tensor, t: Tensor) -> Tensor:
        wrong = torch.from_numpy(rng.random(len(latents)) < self.misordered_share)
        wrong &= t >= MISORDERED_FROM * self.schedule.num_steps
        shown = latents.clone()
        for index in wrong.nonzero().flatten().tolist():
            shown[index] = latents[index][:, wandering_order(rng, latents.shape[2])]
        return shown

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
