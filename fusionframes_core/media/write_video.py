"""Videos out: H.264 MP4, GIF, PNG frames. Whatever is written appears whole or not at all."""

from __future__ import annotations

from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from ..files import check_name, check_writable
from .frames import Frames, check_frames
from .gif_writer import MAX_FPS, gif_writer, thinning
from .mp4_writer import mp4_writer
from .png_writer import FRAME_NAME, png_writer, write_png
from .sound import Sound

__all__ = [
    "check_output",
    "check_side",
    "video_writer",
    "write_gif",
    "write_mp4",
    "write_png",
    "write_video",
    "written_otherwise",
]

OUTPUT_SUFFIXES = (".mp4", ".gif")
LONGEST_SIDE = {".mp4": 16384, ".gif": 65535}  # pixels: what x264 and the format take
_ALLOWED = " or ".join(OUTPUT_SUFFIXES)


class VideoWriter(Protocol):
    """Takes the pictures of a video in order."""

    def write(self, picture: Frames) -> None:
        """One picture (H, W, 3), uint8, of the size of the first."""


def check_output(path: str | Path) -> Path:
    """Raise ValueError unless a video (.mp4, .gif) or a folder of frames can be written at `path`."""
    check_name("out", path)
    path = Path(path)
    if path.suffix.lower() not in (*OUTPUT_SUFFIXES, ""):
        raise ValueError(f"out must end in {_ALLOWED}, or name a folder for frames; got '{path}'")
    check_writable(path)
    if path.suffix and path.is_dir():
        raise ValueError(f"out must be a file; '{path}' is a folder")
    if not path.suffix and path.exists() and not path.is_dir():
        raise ValueError(f"out must end in {_ALLOWED}, or name a folder; '{path}' is a file")
    if path.is_dir():
        check_writable(path / FRAME_NAME.format(0))
    return path


def check_side(path: Path, size: tuple[int, int], scale: int = 1) -> None:
    """Raise ValueError unless the file at `path` can hold pictures of (height, width) times `scale`."""
    most = LONGEST_SIDE.get(path.suffix.lower())
    if most is not None and max(size) * scale > most:
        raise ValueError(
            f"size times scale must be at most {most} pixels a side in {path.suffix}; "
            f"got {size[0]}x{size[1]} times {scale}"
        )


def video_writer(
    path: str | Path, fps: float | Fraction, sound: Sound | None = None
) -> AbstractContextManager[VideoWriter]:
    """A writer of .mp4, .gif or, without a suffix, a folder of PNG frames; only .mp4 takes `sound`.

    The file or frames appear when the context is left; after an error nothing is left behind. Raises ValueError for
    another suffix.
    """
    path = check_output(path)
    suffix = path.suffix.lower()
    if suffix == ".mp4":
        return mp4_writer(path, fps, sound)
    return gif_writer(path, fps) if suffix == ".gif" else png_writer(path)


def written_otherwise(path: Path, fps: float | Fraction, sounds: int) -> list[str]:
    """What the file at `path` cannot hold of a video of `fps` with so many audio streams, a sentence each."""
    notes = []
    every = thinning(fps) if path.suffix.lower() == ".gif" else 1
    if every > 1:
        kept = f"one frame of {every} is written, {float(fps) / every:g} FPS"
        notes.append(f"GIF players show at most {MAX_FPS} frames a second: {kept}")
    if sounds and path.suffix.lower() != ".mp4":
        kind = "a GIF" if path.suffix else "a folder of pictures"
        notes.append(f"the sound is left out: {kind} has none")
    return notes


def write_video(frames: Frames, path: str | Path, fps: float | Fraction) -> None:
    """Write .mp4, .gif or, without a suffix, a folder of PNG frames. Raises ValueError for another suffix."""
    _write(frames, video_writer(path, fps))


def write_mp4(frames: Frames, path: str | Path, fps: float | Fraction) -> None:
    """Write an H.264 MP4 (yuv420p, BT.709) that any player shows; an odd side gets its last row or column twice."""
    _write(frames, mp4_writer(path, fps))


def write_gif(frames: Frames, path: str | Path, fps: float | Fraction) -> None:
    """Write an endless GIF with a palette of its own, of at most 50 FPS; see `gif_writer`."""
    _write(frames, gif_writer(path, fps))


def _write(frames: Frames, opened: AbstractContextManager[VideoWriter]) -> None:
    frames = check_frames(frames)
    with opened as writer:
        for picture in frames:
            writer.write(picture)
