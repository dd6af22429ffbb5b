"""Video files out: H.264 MP4, GIF, PNG frames, through PyAV. Whatever is written appears whole or not at all."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..files import atomic_path, check_writable
from .frames import Frames, check_frames

VIDEO_SUFFIXES = (".mp4", ".gif")
FRAME_NAME = "frame_{:04d}.png"
# x264's macroblock-tree rate control reads uninitialised memory at widths that are no multiple of 128, 64 among them,
# so that the same frames come out as different files.
_X264_PARAMS = "mbtree=0"
_CRF = "14"  # constant quality of x264: 0 is lossless, 18 looks so, 51 is worst
_MAX_RATE_DENOMINATOR = 100_000


def check_output(path: str | Path) -> Path:
    """Raise ValueError unless a video (.mp4, .gif) or a folder of frames can be written at `path`."""
    path = Path(path)
    if path.suffix.lower() not in (*VIDEO_SUFFIXES, ""):
        raise ValueError(f"out must end in {' or '.join(VIDEO_SUFFIXES)}, or name a folder for frames; got '{path}'")
    if path.suffix and path.is_dir():
        raise ValueError(f"out must be a file; '{path}' is a folder")
    if not path.suffix and path.exists() and not path.is_dir():
        raise ValueError(f"out must end in {' or '.join(VIDEO_SUFFIXES)}, or name a folder; '{path}' is a file")
    check_writable(path)
    return path


def write_video(frames: Frames, path: str | Path, fps: float | Fraction) -> None:
    """Write .mp4, .gif or, without a suffix, a folder of PNG frames. Raises ValueError for another suffix."""
    path = check_output(path)
    if path.suffix.lower() == ".mp4":
        write_mp4(frames, path, fps)
    elif path.suffix.lower() == ".gif":
        write_gif(frames, path, fps)
    else:
        write_frames(frames, path)


def write_mp4(frames: Frames, path: str | Path, fps: float | Fraction) -> None:
    """Write an H.264 MP4 (yuv420p, BT.709) that any player shows; an odd side gets its last row or column twice."""
    import av
    from av.video.reformatter import ColorRange, Colorspace

    frames, rate = check_frames(frames), _rate(fps)
    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    with atomic_path(path) as partial, av.open(str(partial), "w", options={"movflags": "+faststart"}) as container:
        options = {"crf": _CRF, "preset": "medium", "x264-params": _X264_PARAMS}
        stream: Any = container.add_stream("libx264", rate=rate, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = 1 / rate
        context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU709
        context.color_primaries, context.color_trc = 1, 1  # BT.709
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            frame.pts, frame.time_base = index, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_gif(frames: Frames, path: str | Path, fps: float | Fraction) -> None:
    """Write an endless GIF with a palette of its own; its clock ticks in hundredths of a second."""
    import av

    frames, rate = check_frames(frames), _rate(fps)
    with atomic_path(path) as partial, av.open(str(partial), "w", options={"loop": "0"}) as container:
        stream: Any = container.add_stream("gif", rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "pal8"
        for frame in _with_palette(frames, rate):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _with_palette(frames: Frames, rate: Fraction) -> Iterator[Any]:
    """The frames in 256 colours chosen for the whole video, through ffmpeg's palettegen and paletteuse."""
    import av
    from av.filter import Graph

    graph = Graph()
    height, width = frames.shape[1:3]
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat("rgb24"), time_base=1 / rate)
    split, generate, use = graph.add("split"), graph.add("palettegen"), graph.add("paletteuse", "dither=none")
    source.link_to(split)
    split.link_to(generate, output_idx=0)
    split.link_to(use, output_idx=1)
    generate.link_to(use, input_idx=1)
    use.link_to(graph.add("buffersink"))
    graph.configure()
    for index, picture in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = index, 1 / rate
        graph.push(frame)
    graph.push(None)
    for _ in frames:
        yield graph.pull()


def write_frames(frames: Frames, folder: str | Path) -> None:
    """Write frame_0000.png, frame_0001.png, ...; older frames of that name are replaced or removed."""
    folder, frames = Path(folder), check_frames(frames)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for index, picture in enumerate(frames):
            (partial / FRAME_NAME.format(index)).write_bytes(_png(picture))
        folder.mkdir(exist_ok=True)
        for file in sorted(partial.iterdir()):
            os.replace(file, folder / file.name)
        for old in folder.glob("frame_*.png"):
            number = old.stem.removeprefix("frame_")
            if number.isdigit() and int(number) >= len(frames):
                old.unlink()
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_png(picture: Frames, path: str | Path) -> None:
    """Write one picture (H, W, 3)."""
    with atomic_path(path) as partial:
        partial.write_bytes(_png(picture))


def _png(picture: Frames) -> bytes:
    import av

    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    codec: Any = av.CodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = frame.width, frame.height, "rgb24", Fraction(1)
    return b"".join(bytes(packet) for packet in (*codec.encode(frame), *codec.encode()))


def _rate(fps: float | Fraction) -> Fraction:
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"fps must be a finite number above 0; got {fps}")
    return Fraction(fps).limit_denominator(_MAX_RATE_DENOMINATOR)
