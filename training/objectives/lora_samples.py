"""Sample videos of a LoRA that trains, from texts that the data set has: no text encoder stays in memory."""

from __future__ import annotations

import numpy as np
import torch

from fusionframes_core.checkpoints.component import StoredModel
from fusionframes_core.models.text_encoder import TextContext
from fusionframes_core.sampling.interpolation_sampling import interpolate

from ..data.prepared_clips import context_of
from ..data.sources import PreparedSource, Source
from ..engine.objective import Sampler
from ..moving_shapes.clips import WINDOW
from .first_frame_objective import FirstFrameTraining
from .sample_videos import draw_continued, draw_interpolation, draw_keyframes


class LoraSamples:
    """Texts, first clips and the autoencoder of sample videos, read before the base takes the memory."""

    def __init__(
        self,
        model: StoredModel,
        part: str,
        source: Source,
        prompt: str | None,
        first: FirstFrameTraining | None = None,
    ) -> None:
        """`first`: of keyframes that continue a first frame. Raises ValueError where the prompt is no caption of the
        data and the model has no text encoder."""
        self.config, self.part, self.first = model.config, part, first
        dtype = torch.bfloat16 if torch.accelerator.is_available() else torch.float32
        self.decoder = model.components["movq"].load(dtype)
        self.null = source.null_context()
        if part == "keyframe":
            self.texts = [text_for(model, source, prompt), self.null]
        else:
            self.shown = source.windows(np.random.default_rng(2), 1, WINDOW)

    def sampler(self, size: tuple[int, int]) -> Sampler:
        """Videos of `size` (height, width) in pixels; those of interpolation are as large as the clip shown."""
        if self.first is not None:
            return draw_continued(self.config, self.texts, self.decoder, size, self.first)
        if self.part == "keyframe":
            return draw_keyframes(self.config, self.texts, self.decoder, size)
        return draw_interpolation(self.config, interpolate, self.null, self.shown, self.decoder)


def text_for(model: StoredModel, source: Source, prompt: str | None) -> TextContext:
    """The context of a prompt: a caption's stored one, or what the text encoder makes of it, which then goes again."""
    if isinstance(source, PreparedSource):
        wanted = prompt or next(text for *_, clip in source.clips.clips for text in clip["captions"])
        stored = source.clips.text_of(wanted)
        if stored is not None:
            return context_of(stored)
        prompt = wanted
    if "text_encoder" not in model.components:
        raise ValueError(f"sample_prompt must be a caption of data where there is no text encoder; got {prompt!r}")
    return model.components["text_encoder"].load().encode([prompt or ""])
