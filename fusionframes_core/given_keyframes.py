"""What keyframes may begin with beside noise: a video to change, and pictures to hold in their places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from .config import ModelConfig
from .sampling.guides import Guide, hold_frames
from .sampling.stage_sampler import Given
from .settings import GenerationSettings, ResolvedSettings, latent_size, spatial_factor


@dataclass(frozen=True)
class Beginning:
    """`latents` (B, 4, T, h, w) of a video to change as far as the settings' `denoise` says, and guides to hold."""

    latents: Tensor | None = None
    guides: Sequence[Guide] = ()

    def shaped(self, settings: GenerationSettings, config: ModelConfig) -> GenerationSettings:
        """The settings, whose size and number of keyframes are the video's where they are left out."""
        if self.latents is None:
            return settings
        factor = spatial_factor(config.movq)
        size = (self.latents.shape[-2] * factor, self.latents.shape[-1] * factor)
        return replace(settings, size=settings.size or size, num_frames=settings.num_frames or self.latents.shape[2])

    def given(self, chosen: ResolvedSettings, config: ModelConfig, batch: int) -> Given:
        """For the sampler. Raises ValueError for what does not fit the model, the settings or the number of videos."""
        if self.latents is None and chosen.denoise < 1:
            raise ValueError(f"denoise must be 1 where no video is given to begin with; got {chosen.denoise:g}")
        if (self.latents is not None or self.guides) and config.keyframe.image_input:
            name = "latents" if self.latents is not None else "guides"
            raise ValueError(f"{name} must be left out: {config.name} begins with an image; give it as image")
        height, width = latent_size(config, chosen.size)
        if self.latents is not None:
            wanted = (batch, 4, chosen.num_frames, height, width)
            _check_shape("latents", self.latents, wanted)
        for guide in self.guides:
            _check_shape("the latent of a guide", guide.latent, (batch, 4, 1, height, width))
        return Given(self.latents, hold_frames(self.guides, chosen.num_frames) if self.guides else None)


def _check_shape(name: str, given: Tensor, wanted: tuple[int, ...]) -> None:
    """Raise ValueError unless a tensor has this shape; one for every video of the batch will do."""
    shape = tuple(given.shape)
    if shape[1:] != wanted[1:] or shape[0] not in (1, wanted[0]):
        raise ValueError(f"{name} must be {wanted} for this video (or the first number 1); got {shape}")
