"""Interpolating a video of any length, window by window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..media.frames import Frames, to_pixels, to_uint8
from ..models.movq.decode_plan import ENCODE_CHUNK
from ..models.text_encoder import TextContext
from ..pipeline import FusionFramesPipeline
from ..sampling.frame_rates import PASS_FACTOR, frames_by_time
from .memory_plan import Window, windows_of

WRITTEN_AT_ONCE = 16  # frames that are turned into uint8 at once
StageReport = Callable[[str, int, int, Tensor], None]


@dataclass(frozen=True)
class Interpolation:
    """A pipeline and how it interpolates: `skips` are the skip-frame values of the passes, `options` what every pass of
    `FusionFramesPipeline.interpolate` is given, `window` how many input frames are interpolated at once."""

    pipeline: FusionFramesPipeline
    text: TextContext | None
    skips: tuple[int, ...]
    options: Mapping[str, Any]
    window: int
    report: StageReport
    multiple: Fraction | None = None  # of the input's rate, where it is not that of the passes

    @property
    def factor(self) -> int:
        """Frames that one becomes."""
        return PASS_FACTOR ** len(self.skips)

    def frames(self, pictures: Iterator[Frames], count: int) -> Iterator[Frames]:
        """`count` pictures (H, W, 3) of the pipeline's size to those of `multiple` times the rate, one by one."""
        made = self._all_frames(pictures, count)
        if self.multiple is None:
            return made
        taken = set(frames_by_time(count, len(self.skips), self.multiple))
        return (frame for index, frame in enumerate(made) if index in taken)

    def _all_frames(self, pictures: Iterator[Frames], count: int) -> Iterator[Frames]:
        """`count` pictures (H, W, 3) of the pipeline's size to (count − 1)·factor + 1, one after the other.

        A video within `window` is interpolated as a whole. A longer one is done in windows that share frames
        and are cut at one of these, which interpolation leaves as they are.
        """
        windows = windows_of(count, self.window)
        latents: Tensor | None = None
        begin = 0
        for index, window in enumerate(windows):
            new = islice(pictures, window.stop - begin - (latents.shape[2] if latents is not None else 0))
            latents = self._encode(latents, new)
            prefix = f"window {index + 1} of {len(windows)}, " if len(windows) > 1 else ""
            pixels = self._window(latents, partial(_named, self.report, prefix))
            yield from self._kept(pixels, window, index + 1 == len(windows))
            if index + 1 < len(windows):
                begin = windows[index + 1].start
                latents = latents[:, :, begin - window.start :]

    def _encode(self, known: Tensor | None, pictures: Iterator[Frames]) -> Tensor:
        """The latents (1, 4, T, h, w) of what is known and of more pictures."""
        parts = [known] if known is not None else []
        while chunk := list(islice(pictures, ENCODE_CHUNK)):
            parts.append(self.pipeline.encode(to_pixels(np.stack(chunk))[None]))
        return torch.cat(parts, dim=2)

    def _window(self, latents: Tensor, report: StageReport) -> Tensor:
        """Latents (1, 4, T, h, w) to pixels (3, (T − 1)·factor + 1, H, W)."""
        for index, skip in enumerate(self.skips):
            name = f"interpolation {index + 1}"
            latents = self.pipeline.interpolate(latents, self.text, partial(report, name), skip, **self.options)
        return self.pipeline.decode(latents, callback=partial(report, "decode"))[0]

    def _kept(self, pixels: Tensor, window: Window, is_last: bool) -> Iterator[Frames]:
        """The frames of a window that are its own, a few at a time in uint8."""
        first = (window.first - window.start) * self.factor
        stop = (window.last - window.start) * self.factor + is_last
        for start in range(first, stop, WRITTEN_AT_ONCE):
            yield from to_uint8(pixels[:, start : min(start + WRITTEN_AT_ONCE, stop)])


def _named(report: StageReport, prefix: str, stage: str, step: int, total: int, latents: Tensor) -> None:
    report(prefix + stage, step, total, latents)
