"""Keyframes that continue a first frame, and the still that is drawn before them (KandinskyVideo 1.1).

1.1 draws a still from the text with the same U-Net, whose temporal parts it skips, and then keyframes that continue it:
`sampling.keyframe_sampling`. A step here trains both on the same clips.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fusionframes_core.models.unet.unet import KeyframeCondition
from fusionframes_core.sampling.keyframe_sampling import first_frame_channels
from fusionframes_core.sampling.schedule import add_noise
from fusionframes_core.settings import (
    DEFAULT_MOTION,
    MAX_STILL_NOISE,
    NOISE_AUGMENTATION,
    motion_score,
)
from fusionframes_core.value_checks import check_range, check_weight

from ..engine.figures import Figures
from ..engine.objective import Batch
from .denoising import denoising_loss
from .keyframe_objective import KeyframeObjective

FIRST_FRAME_DROP = 0.1  # share of the clips without one, for guidance


@dataclass(frozen=True)
class FirstFrameTraining:
    """What clips are said to show, and how the loss counts stills.

    `motion` is the name or number of the motion score, as videos are asked for. A clip's first frame carries from 0 to
    `noise_augmentation` steps of Gaussian noise. The loss of stills counts `still_weight` times; 0 trains none. Raises
    ValueError for values out of range.
    """

    motion: str | float = DEFAULT_MOTION
    noise_augmentation: int = NOISE_AUGMENTATION
    still_weight: float = 1.0

    def __post_init__(self) -> None:
        motion_score(self.motion)
        check_range("noise_augmentation", self.noise_augmentation, 0, MAX_STILL_NOISE)
        check_weight("still_weight", self.still_weight)


@dataclass(frozen=True)
class FirstFrameObjective(KeyframeObjective):
    """Denoising of keyframes whose first one the U-Net is given beside them, and of single frames as stills.

    The first frame's latent is the clip's own, from the video's autoencoder. Sampling encodes it by the image's, which
    has the same latents: training a video autoencoder changes the decoder alone (paper, section 4.3).
    """

    first: FirstFrameTraining = FirstFrameTraining()

    def make_batch(self, rng: np.random.Generator) -> Batch:
        """As for keyframes, and `level` (B,), the steps of noise on the first frames; `given` (B,) bool, whether
        there is one; `still` (B,), the frames that are stills, at times `still_t` (B,)."""
        batch = super().make_batch(rng)
        count, frames = batch["latents"].shape[0], batch["latents"].shape[2]
        return {
            **batch,
            "level": torch.from_numpy(rng.integers(self.first.noise_augmentation + 1, size=count)),
            "given": torch.from_numpy(rng.random(count) >= FIRST_FRAME_DROP),
            "still": torch.from_numpy(rng.integers(frames, size=count)),
            "still_t": self.levels.draw(rng, count, self.schedule.num_steps),
        }

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Figures]:
        """`denoising_loss` of the keyframes, and `still_weight` times that of the stills, in the figures as
        `loss_still`."""
        loss, figures = self._clip_loss(model, batch)
        if not self.first.still_weight:
            return loss, figures
        still = self._still_loss(model, batch)
        return loss + self.first.still_weight * still, {**figures, "loss_still": still.detach()}

    def _clip_loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Figures]:
        latents, text, level = batch["latents"], batch["text"], batch["level"]
        first = latents[:, :, :1]
        noisy = add_noise(first, torch.randn_like(first), *self.schedule.alpha_sigma(level))
        channels = first_frame_channels(noisy, latents.shape[2]) * batch["given"][:, None, None, None, None]
        score = torch.full(level.shape, motion_score(self.first.motion), device=latents.device)
        condition = KeyframeCondition(text.context, text.mask, self.positions(latents), score, level.float())
        return self._denoised(model, latents, batch["t"], condition, channels)

    def _still_loss(self, model: nn.Module, batch: Batch) -> Tensor:
        latents, text = batch["latents"], batch["text"]
        still = latents[torch.arange(len(latents), device=latents.device), :, batch["still"]][:, :, None]
        empty = torch.zeros_like(still[:, :1]).repeat(1, latents.shape[1] + 1, 1, 1, 1)
        condition = KeyframeCondition(text.context, text.mask, image=True)
        return self._denoised(model, still, batch["still_t"], condition, empty)[0]

    def _denoised(
        self, model: nn.Module, latents: Tensor, t: Tensor, condition: KeyframeCondition, channels: Tensor
    ) -> tuple[Tensor, Figures]:
        prediction = self.config.keyframe_schedule.prediction
        return denoising_loss(
            lambda x, t: model(torch.cat([x, channels], dim=1), t, condition),
            latents,
            t,
            self.schedule,
            prediction,
            self.least_weight,
            self.steady_weight,
        )
