"""Video files of the kinds that people have: made by the tests, each with one thing about it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pictures = NDArray[np.uint8]
TICK = Fraction(1, 1000)
BAR = 6
_BY_RATE = ("mpeg4", "mpeg1video", "mpeg2video")  # encoders that do not count in thousandths


def bars(places: Sequence[float], size: tuple[int, int] = (48, 64)) -> Pictures:
    """A white bar of six columns on black, its left edge at each of `places`. (T, H, W, 3)"""
    frames = np.zeros((len(places), *size, 3), np.uint8)
    for frame, place in zip(frames, places, strict=True):
        frame[:, round(place) : round(place) + BAR] = 255
    return frames


def place_of(picture: Pictures) -> float:
    """The bar's left edge."""
    return float(np.flatnonzero(picture.mean(axis=(0, 2)) > 128)[0])


def write_timed(
    path: Path,
    pictures: Pictures,
    times: Sequence[float],
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    **context: Any,
) -> Path:
    """A video whose pictures are shown at `times` (seconds); `context` are attributes of the encoder."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        add_video(container, pictures, times, codec, pix_fmt, **context)
    return path


def add_video(
    container: Any, pictures: Pictures, times: Sequence[float], codec: str, pix_fmt: str, **context: Any
) -> Any:
    """A video stream of an open container, and its pictures."""
    import av

    typical = Fraction(len(times) - 1, 1) / Fraction(times[-1] - times[0]) if len(times) > 1 else Fraction(1)
    stream = container.add_stream(codec, rate=typical.limit_denominator(1001))
    stream.height, stream.width, stream.pix_fmt = *pictures.shape[1:3], pix_fmt
    timed = codec not in _BY_RATE
    if timed:
        stream.codec_context.time_base = TICK
    for name, value in context.items():
        setattr(stream.codec_context, name, value)
    for picture, time in zip(pictures, times, strict=True):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        if timed:
            frame.pts, frame.time_base = round(time * 1000), TICK
        container.mux(stream.encode(frame))
    container.mux(stream.encode())
    return stream


def write_with_sound(
    path: Path,
    pictures: Pictures,
    fps: int,
    codec: str = "aac",
    beep: float = 0.5,
    video: str = "libx264",
    sample_rate: int = 44100,
    pix_fmt: str = "yuv420p",
) -> Path:
    """A video with a second of tone for every second, that is loud from `beep` seconds on."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    seconds = len(pictures) / fps
    with av.open(str(path), "w") as container:
        sound = container.add_stream(codec, rate=sample_rate)
        sound.layout = "mono"
        add_video(container, pictures, [i / fps for i in range(len(pictures))], video, pix_fmt)
        time = np.arange(round(seconds * sample_rate)) / sample_rate
        wave = np.sin(time * 2 * np.pi * 440) * np.where(time < beep, 0.0, 0.8)
        frame = av.AudioFrame.from_ndarray((wave * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = sample_rate, 0
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


def remux_late(source: Path, path: Path, kind: str, late: float) -> Path:
    """The file with its stream of a kind, "video" or "audio", beginning `late` seconds later."""
    import av

    with av.open(str(source)) as before, av.open(str(path), "w") as after:
        streams = {stream.index: after.add_stream_from_template(stream) for stream in before.streams}
        for packet in before.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == kind:
                packet.pts += round(late / packet.time_base)
                packet.dts += round(late / packet.time_base)
            packet.stream = streams[packet.stream_index]
            after.mux(packet)
    return path


def loud_from(path: Path) -> float:
    """When the sound of a file becomes loud, in seconds."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        for frame in container.decode(stream):
            samples = frame.to_ndarray().astype(float)
            samples = np.abs(samples).max(axis=0)
            loud = np.flatnonzero(samples > 0.3 * (32767 if samples.max() > 2 else 1))
            if len(loud):
                return frame.time + float(loud[0]) / frame.sample_rate
    raise AssertionError("it is never loud")


def audio_packets(path: Path) -> list[tuple[float, bytes]]:
    """The audio packets of a file: when, and what."""
    import av

    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(container.streams.audio[0]) if packet.size]
        return [(float(packet.pts * packet.time_base), bytes(packet)) for packet in packets]


def half_of(path: Path, name: str) -> Path:
    """The first half of a file."""
    cut = path.with_name(name)
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return cut


def write_animation(path: Path, pictures: Pictures, delays: Sequence[int]) -> Path:
    """An animated GIF, WebP or PNG, each picture shown for its delay in milliseconds."""
    from PIL import Image

    images = [Image.fromarray(picture) for picture in pictures]
    lossless = {"lossless": True} if path.suffix.lower() == ".webp" else {}
    kind = {".gif": "GIF", ".webp": "WEBP"}.get(path.suffix.lower(), "PNG")
    images[0].save(
        path, format=kind, save_all=True, append_images=images[1:], duration=list(delays), loop=0, **lossless
    )
    return path


ONE = 1 << 16  # of a display matrix, which counts in 65536ths


def set_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Write (x' = a·x + c·y, y' = b·x + d·y) into the header of an MP4 file of one track."""
    content, plain = bytearray(path.read_bytes()), struct.pack(">9i", ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30)
    place = content.index(plain, content.index(b"tkhd"))
    content[place : place + len(plain)] = struct.pack(">9i", a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0\nsize 12345\n"
