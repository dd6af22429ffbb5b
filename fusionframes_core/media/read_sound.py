"""The sound of a video file as samples."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Samples:
    """`waveform` (channels, N) float32 in [−1, 1] at `rate` samples a second."""

    waveform: NDArray[np.float32]
    rate: int

    def between(self, start: float, length: float | None = None) -> Samples:
        """The samples from `start` seconds on, for `length` seconds if that is given."""
        first = round(start * self.rate)
        last = None if length is None else first + round(length * self.rate)
        return Samples(self.waveform[:, first:last], self.rate)


def read_sound(source: str | Path | BytesIO) -> Samples | None:
    """The last audio stream of a file, from time 0 on; None where there is none."""
    import av

    if isinstance(source, BytesIO):
        source.seek(0)
    with av.open(source if isinstance(source, BytesIO) else str(source), mode="r") as container:
        if not container.streams.audio:
            return None
        stream, parts, early = container.streams.audio[-1], [], None
        resampler = av.AudioResampler(format="fltp")
        for decoded in container.decode(stream):
            for frame in resampler.resample(decoded):
                if early is None:  # what encoders put before time 0
                    early = max(0, int(-(frame.time or 0.0) * stream.rate))
                part = frame.to_ndarray()
                parts.append(part[:, early:])
                early = max(0, early - part.shape[1])
        if not parts:
            return None
        return Samples(np.concatenate(parts, axis=1).astype(np.float32, copy=False), int(stream.rate))
