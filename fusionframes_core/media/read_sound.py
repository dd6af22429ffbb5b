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
    """The last audio stream of a file, with silence from when the first stream begins; None where there is none."""
    import av

    if isinstance(source, BytesIO):
        source.seek(0)
    with av.open(source if isinstance(source, BytesIO) else str(source), mode="r") as container:
        if not container.streams.audio:
            return None
        stream, early = container.streams.audio[-1], None
        parts: list[NDArray[np.float32]] = []
        zero = max(0.0, (container.start_time or 0) / 1e6)  # of recordings, which count from anywhere
        resampler = av.AudioResampler(format="fltp")
        for decoded in container.decode(stream):
            for frame in resampler.resample(decoded):
                part = frame.to_ndarray().astype(np.float32, copy=False)
                if early is None:
                    late = round(((frame.time or 0.0) - zero) * stream.rate)
                    early = max(0, -late)  # what encoders put before time 0
                    parts.append(np.zeros((len(part), max(0, late)), np.float32))
                parts.append(part[:, early:])
                early = max(0, early - part.shape[1])
        if not parts:
            return None
        return Samples(np.concatenate(parts, axis=1), int(stream.rate))
