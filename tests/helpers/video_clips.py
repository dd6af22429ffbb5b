"""Tiny videos that the data and evaluation tests write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusionframes_core.media.write_video import write_mp4
from training.data.recipe import Recipe

RECIPE = Recipe((16, 16), min_frames=9, max_frames=40)


def moving(count: int, size: tuple[int, int] = (32, 40), seed: int = 0) -> NDArray[np.uint8]:
    """A bright square that moves over a dark frame; another seed, another colour. (count, H, W, 3)"""
    frames = np.full((count, *size, 3), 30, np.uint8)
    colour = np.random.default_rng(seed).integers(120, 255, 3)
    for index in range(count):
        left = index % (size[1] - 8)
        frames[index, 8:16, left : left + 8] = colour
    return frames


def write(path: Path, frames: NDArray[np.uint8], fps: float = 24) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mp4(frames, path, fps)
    return path


def write_avi(path: Path, frames: NDArray[np.uint8]) -> Path:
    """MPEG-4 in AVI, as UCF-101 has it."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_changing_size(path: Path) -> Path:
    """A transport stream of 32 × 40 pixels that goes on in 48 × 48."""
    import av

    parts = []
    for index, size in enumerate(((32, 40), (48, 48))):
        part = path.with_name(f"part{index}.ts")
        frames = moving(20, size)
        with av.open(str(part), "w", format="mpegts") as container:
            stream = container.add_stream("mpeg2video", rate=25)
            stream.height, stream.width = size
            stream.pix_fmt = "yuv420p"
            for picture in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        parts.append(part.read_bytes())
        part.unlink()
    path.write_bytes(b"".join(parts))
    return path


def write_without_frames(path: Path) -> Path:
    """A whole MP4 file whose video stream has no frame."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        sound = container.add_stream("aac", rate=44100)
        silence = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        silence.sample_rate = 44100
        for plane in silence.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(sound.encode(silence))
        container.mux(stream.encode())
        container.mux(sound.encode())
    return path
