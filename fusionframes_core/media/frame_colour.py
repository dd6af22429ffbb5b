"""Decoded frames as RGB pictures: upright, in the shape that they are shown in, in the colours that they mean."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from .frames import Frames
from .orientation import orientation

UNSPECIFIED = 2  # of matrix, primaries and transfer (ITU-T H.273)
HD_LINES = 720  # from so many lines on, players take video that does not say for BT.709, below for BT.601
PQ, HLG = 16, 18
HDR = {PQ: "PQ", HLG: "HLG"}
WIDE_PRIMARIES = (9, 11, 12)  # BT.2020, DCI-P3, Display P3
UNKNOWN_MATRICES = {8: "YCgCo", 10: "BT.2020 of constant luminance", 14: "ICtCp", 15: "IPT-C2"}
"""Matrices that no scaler of FFmpeg knows."""
SCALER_OF_WIDE_COLOURS = 9  # the version of FFmpeg 8's


class UnsupportedColours(ValueError):
    """Colours that the installed FFmpeg cannot turn into BT.709."""


class ToPicture:
    """Frames of one video stream to RGB pictures (H, W, 3), uint8.

    `aspect` is the width of a pixel over its height; `size` (height, width) of the upright result, None: as it is
    shown. Frames of high dynamic range or wide colours are brought to BT.709's. Raises UnsupportedColours.
    """

    def __init__(self, aspect: Fraction = Fraction(1), size: tuple[int, int] | None = None) -> None:
        self.aspect, self.size = aspect, size
        self._standard: tuple[Any, StandardColours] | None = None

    def __call__(self, frame: Any) -> Frames:
        """One frame."""
        from av import FFmpegError

        try:
            return self._picture(frame)
        except (FFmpegError, ValueError) as error:
            if isinstance(error, MemoryError):
                raise
            raise _refusal(frame) from error

    def _picture(self, frame: Any) -> Frames:
        upright = orientation(frame)
        matrix = _matrix(frame)
        if has_wide_colours(frame):
            frame, matrix = self._to_standard(frame), None
        size = upright.swapped(self.size) if self.size is not None else None
        if size is None and self.aspect != 1:
            size = (frame.height, shown_width(frame.width, self.aspect))
        if size is not None:
            if frame.format.has_palette or frame.format.is_bayer:  # which FFmpeg does not write, nor scale into itself
                frame = frame.reformat(format="rgb24")
            height, width = size
            method = "AREA" if height < frame.height else "LANCZOS"
            frame = frame.reformat(width=width, height=height, interpolation=method)
        picture = frame.reformat(format="rgb24", src_colorspace=matrix).to_ndarray()
        return upright(picture)

    def _to_standard(self, frame: Any) -> Any:
        kind = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if self._standard is None or self._standard[0] != kind:
            self._standard = (kind, StandardColours(frame))
        return self._standard[1](frame)


class StandardColours:
    """Frames like `example`, tone-mapped and brought to BT.709 as RGB by FFmpeg's scaler."""

    def __init__(self, example: Any) -> None:
        from av.filter import Graph

        self.graph = Graph()
        source = (
            f"video_size={example.width}x{example.height}:pix_fmt={example.format.name}:time_base=1/1000:"
            f"colorspace={example.colorspace}:range={example.color_range}"
        )
        buffer = self.graph.add("buffer", source)
        scale = self.graph.add("scale", "out_transfer=bt709:out_primaries=bt709:intent=perceptual")
        picture = self.graph.add("format", "rgb24")
        buffer.link_to(scale)
        scale.link_to(picture)
        picture.link_to(self.graph.add("buffersink"))
        self.graph.configure()

    def __call__(self, frame: Any) -> Any:
        """The frame in RGB."""
        self.graph.push(frame)
        return self.graph.pull()


def has_wide_colours(frame: Any) -> bool:
    """Whether a frame means more than BT.709 can show: PQ or HLG, or primaries that are wider."""
    return frame.color_trc in HDR or frame.color_primaries in WIDE_PRIMARIES


def shown_width(width: int, aspect: Fraction) -> int:
    """The width in square pixels of a row of `width` pixels."""
    return max(1, round(width * aspect))


def shown_size(frame: Any, aspect: Fraction) -> tuple[int, int]:
    """(height, width) of a frame as it is shown: upright, with square pixels."""
    return orientation(frame).swapped((frame.height, shown_width(frame.width, aspect)))


def _refusal(frame: Any) -> UnsupportedColours:
    import av

    matrix = UNKNOWN_MATRICES.get(frame.colorspace)
    wide = HDR.get(frame.color_trc, "wide" if has_wide_colours(frame) else f"those of a {frame.format.name} picture")
    helps = not matrix and av.library_versions["libswscale"][0] < SCALER_OF_WIDE_COLOURS
    newer = " (FFmpeg 8 and later can)" if helps else ""
    return UnsupportedColours(
        f"its colours are {matrix or wide}, which this FFmpeg cannot turn into BT.709{newer}; convert it first"
    )


def _matrix(frame: Any) -> Any:
    """The matrix of a frame that does not say it, where FFmpeg would take another one; else None."""
    from av.video.reformatter import Colorspace

    says = frame.colorspace != UNSPECIFIED
    return None if says or frame.format.is_rgb or frame.height < HD_LINES else Colorspace.ITU709
