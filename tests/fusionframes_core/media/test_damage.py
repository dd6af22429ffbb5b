"""What is damaged is said, with how many frames could be read; what is whole never is, whatever it lies in."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fusionframes_core.media.file_structure import is_broken
from fusionframes_core.media.read_video import open_video, read_video
from fusionframes_core.media.video_packets import Packets
from fusionframes_core.media.video_source import DamagedVideo, VideoFileError
from fusionframes_core.media.write_video import write_gif, write_mp4
from tests.helpers.video_files import add_video, bars, half_of, write_animation, write_timed, write_with_sound

TIMES = [i / 24 for i in range(48)]
PLACES = list(range(48))
PACKET = 188  # bytes of a transport stream's
# Container, codec of the video and of the sound, and the sound's rate.
WHOLE = [
    *(("a.mp4", "libx264", "aac", 44100), ("a.mov", "mjpeg", "pcm_s16le", 44100), ("a.mp4", "libx265", "ac3", 48000)),
    *(("a.mov", "prores_ks", "alac", 44100), ("a.mkv", "ffv1", "flac", 44100), ("a.mkv", "libx264", "mp2", 44100)),
    *(("a.webm", "libvpx", "libopus", 48000), ("a.webm", "libvpx-vp9", "libopus", 48000)),
    *(("a.avi", "mpeg4", "libmp3lame", 44100), ("a.avi", "mjpeg", "pcm_s16le", 8000), ("a.avi", "ffv1", "ac3", 44100)),
    *(("a.flv", "flv", "adpcm_swf", 22050), ("a.flv", "flv", "libmp3lame", 11025), ("a.flv", "libx264", "aac", 44100)),
    *(("a.wmv", "wmv2", "mp2", 44100), ("a.asf", "msmpeg4v2", "libmp3lame", 44100), ("a.3gp", "h263", "aac", 44100)),
    *(
        ("a.mpg", "mpeg2video", "mp2", 44100),
        ("a.mpg", "mpeg1video", "mp2", 44100),
        ("a.vob", "mpeg2video", "ac3", 48000),
    ),
    *(("a.ts", "libx264", "aac", 44100), ("a.ts", "mpeg2video", "mp2", 44100), ("a.ts", "libx265", "ac3", 48000)),
    *(("a.m2ts", "libx264", "ac3", 48000), ("a.ogv", "libvpx", "libopus", 48000)),
]


def noise(count: int) -> Any:
    """Pictures of which each is new, whose packets are alike in length. (count, 48, 64, 3)"""
    return np.random.default_rng(0).integers(0, 256, (count, 48, 64, 3), dtype=np.uint8)


def unrest(count: int) -> Any:
    """Pictures that are alike, so that few are keyframes, and have long packets. (count, 48, 64, 3)"""
    random = np.random.default_rng(0)
    return (random.integers(60, 190, (48, 64, 3)) + random.integers(-40, 40, (count, 48, 64, 3))).astype(np.uint8)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.avi", "a.flv", "a.wmv", "a.mpg", "a.gif", "a.png"])
def test_half_a_file_is_counted(tmp_path: Path, name: str) -> None:
    """N of M frames, and all that can be read with `allow_damaged`."""
    import av

    pictures, path = noise(48), tmp_path / name
    if name.endswith((".gif", ".png")):
        write_animation(path, pictures[:24], [100] * 24)
    else:
        codec = {"avi": "mpeg4", "wmv": "wmv2", "mpg": "mpeg2video"}.get(name[-3:], "libx264")
        options = {"movflags": "+faststart"} if name.endswith(("mp4", "mov")) else {}
        with av.open(str(path), "w", options=options) as container:
            add_video(container, pictures, TIMES, codec, "yuv420p")
    whole = open_video(path)
    whole.check()
    total = whole.facts.timeline.count
    cut = half_of(path, f"cut_{name}")
    with pytest.raises(DamagedVideo, match=r"\d+ of \d+ frames could be read") as caught:
        list(open_video(cut).frames())
    assert 0.2 * total < caught.value.readable < 0.8 * total
    assert caught.value.readable < caught.value.total <= total + 1
    if name.endswith((".mp4", ".mov", ".mkv", ".avi", ".flv")):
        assert caught.value.total == pytest.approx(total, abs=1)
    with pytest.raises(DamagedVideo):
        open_video(cut).check()
    if not name.endswith(".png"):
        assert open_video(cut, allow_damaged=True).check().count == caught.value.readable


def test_half_a_webp_is_refused(tmp_path: Path) -> None:
    """Pillow reads nothing of it."""
    path = write_animation(tmp_path / "a.webp", bars(PLACES[:9]), [100] * 9)
    with pytest.raises(VideoFileError, match=r"cut\.webp' must be a whole video file"):
        open_video(half_of(path, "cut.webp"))


def test_a_webp_of_a_folder_whose_pixels_are_damaged_is_left_out(tmp_path: Path) -> None:
    """Its header is whole, so that it opens; without --allow-damaged it is an error."""
    pictures = noise(3)
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"p{index}.webp", lossless=True)
    data = bytearray((tmp_path / "p1.webp").read_bytes())
    data[40:] = bytes(len(data) - 40)
    (tmp_path / "p1.webp").write_bytes(data)
    with pytest.raises(DamagedVideo, match=r"p1\.webp' must be a whole video file: 0 of 1 frames"):
        list(open_video(tmp_path).frames())
    kept = list(open_video(tmp_path, allow_damaged=True).frames())
    assert [frame.time for frame in kept] == [0, pytest.approx(2 / 24)]
    assert (kept[1].picture == pictures[2]).all()


def test_a_hole_in_an_mp4_is_counted(tmp_path: Path) -> None:
    write_mp4(noise(48), tmp_path / "a.mp4", 24)
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 8] = b"\xff" * (len(data) // 8)
    (tmp_path / "hole.mp4").write_bytes(data)
    with pytest.raises(DamagedVideo, match="of 48 frames could be read"):
        read_video(tmp_path / "hole.mp4")
    assert len(read_video(tmp_path / "hole.mp4", max_frames=2)[0]) == 2, "what is asked for is whole"


def test_a_gif_without_an_end_is_cut(tmp_path: Path) -> None:
    write_gif(bars(PLACES), tmp_path / "a.gif", 24)
    (tmp_path / "b.gif").write_bytes((tmp_path / "a.gif").read_bytes()[:-1])
    assert len(read_video(tmp_path / "a.gif")[0]) == 48
    with pytest.raises(DamagedVideo):
        read_video(tmp_path / "b.gif")


@pytest.mark.parametrize(("name", "video", "sound", "rate"), WHOLE)
def test_what_is_whole_is_read(tmp_path: Path, name: str, video: str, sound: str, rate: int) -> None:
    """With sound and without, and as bytes."""
    import av

    if {video, sound} - av.codecs_available:
        pytest.skip(f"this PyAV has no {video} or no {sound}")
    size = (96, 128) if video == "h263" else (48, 64)
    fps = 25 if video == "mpeg1video" else 24
    silent = write_timed(
        tmp_path / f"silent_{name}", bars(PLACES, size), [i / fps for i in range(48)], video, pix_of(video)
    )
    with_sound = write_with_sound(
        tmp_path / name, bars(PLACES, size), fps, sound, video=video, sample_rate=rate, pix_fmt=pix_of(video)
    )
    for source in (silent, with_sound, BytesIO(with_sound.read_bytes())):
        opened = open_video(source)
        assert opened.check().count == opened.facts.declared == 48
    assert not open_video(silent).check().variable


def pix_of(codec: str) -> str:
    return {"prores_ks": "yuv422p10le", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.wmv", "a.flv", "a.ts", "a.gif", "a.png"])
def test_gaps_in_time_are_no_damage(tmp_path: Path, name: str) -> None:
    times = [0.0, 0.1, 0.2, 0.3, 1.5, 1.6, 1.7, 3.0, 3.1]
    if name.endswith(("gif", "png")):
        delays = [round(1000 * step) for step in [*np.diff(times), 0.1]]
        path = write_animation(tmp_path / name, bars(PLACES[:9]), delays)
    else:
        codec = {"webm": "libvpx", "flv": "flv", "wmv": "wmv2"}.get(name.split(".")[1], "libx264")
        path = write_timed(tmp_path / name, bars(PLACES[:9]), times, codec)
    assert open_video(path).check().count == 9


@pytest.mark.parametrize("name", ["a.mkv", "a.webm"])
def test_a_live_recording_does_not_say_how_long_it_is(tmp_path: Path, name: str) -> None:
    """Neither the whole nor its clusters, and a pause is no hole."""
    import av

    class Pipe(BytesIO):
        def seekable(self) -> bool:
            return False

        seek = tell = None  # type: ignore[assignment]

    pipe = Pipe()
    with av.open(pipe, "w", format="webm" if name.endswith("webm") else "matroska", options={"live": "1"}) as container:
        add_video(container, bars(PLACES[:9]), [0.0, 0.1, 0.2, 0.3, 1.5, 1.6, 1.7, 3.0, 3.1], "libvpx", "yuv420p")
    assert open_video(BytesIO(pipe.getvalue())).check().count == 9


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "ffv1"), ("a.ts", "mpeg2video"), ("a.ts", "libx264")])
def test_a_hole_is_said(tmp_path: Path, name: str, codec: str) -> None:
    """A stretch of zeros, that a reader passes over to what it knows again."""
    path = write_timed(tmp_path / name, unrest(48), TIMES, codec)
    data = bytearray(path.read_bytes())
    middle, length = len(data) // 2 // PACKET * PACKET, len(data) // 8 // PACKET * PACKET
    data[middle : middle + length] = bytes(length)
    path.write_bytes(data)
    with pytest.raises(DamagedVideo, match="frames could be read") as caught:
        open_video(path).check()
    assert 20 < caught.value.readable < caught.value.total <= 49
    assert open_video(path, allow_damaged=True).check().count == caught.value.readable


def test_a_hole_in_a_gif_is_said(tmp_path: Path) -> None:
    """Though it ends as it should."""
    path = write_animation(tmp_path / "a.gif", noise(24), [100] * 24)
    data = bytearray(path.read_bytes())
    middle, length = len(data) // 2, len(data) // 8
    data[middle : middle + length] = bytes(length)
    path.write_bytes(data)
    with pytest.raises(DamagedVideo):
        open_video(path).check()


def test_what_follows_a_gif_is_no_damage(tmp_path: Path) -> None:
    path = write_animation(tmp_path / "a.gif", bars(PLACES[:9]), [100] * 9)
    path.write_bytes(path.read_bytes() + b"\r\nmore")
    assert open_video(path).check().count == 9


def test_half_an_ogg_is_said(tmp_path: Path) -> None:
    path = write_timed(tmp_path / "a.ogv", noise(48), TIMES, "libvpx")
    with pytest.raises(DamagedVideo):
        open_video(half_of(path, "cut.ogv")).check()


@pytest.mark.parametrize("codec", ["mpeg2video", "libx264"])
def test_lost_packets_of_a_transport_stream_are_said(tmp_path: Path, codec: str) -> None:
    """The pictures are all there, smeared."""
    path = write_timed(tmp_path / "a.ts", unrest(48), TIMES, codec)
    data = path.read_bytes()
    middle = len(data) // 2 // PACKET * PACKET
    path.write_bytes(data[:middle] + data[middle + 5 * PACKET :])
    with pytest.raises(DamagedVideo, match="frames could be read"):
        open_video(path).check()


@pytest.mark.parametrize("codec", ["mpeg2video", "libx264"])
def test_joined_and_begun_transport_streams_are_whole(tmp_path: Path, codec: str) -> None:
    """Segments of a stream put behind one another count their packets anew; a recording begins anywhere."""
    first = write_timed(tmp_path / "a.ts", unrest(48), TIMES, codec).read_bytes()
    second = write_timed(tmp_path / "b.ts", unrest(48), [2 + time for time in TIMES], codec).read_bytes()
    (tmp_path / "joined.ts").write_bytes(first + second)
    assert open_video(tmp_path / "joined.ts").check().count >= 95
    begun = len(first) // 4 // PACKET * PACKET
    (tmp_path / "begun.ts").write_bytes(first[: 2 * PACKET] + first[begun:] + second)
    assert open_video(tmp_path / "begun.ts").check().count >= 48


def test_packets_without_a_length_in_time_are_counted(tmp_path: Path) -> None:
    """Those of FLV."""
    path = write_timed(tmp_path / "a.flv", noise(48), TIMES, "flv")
    with pytest.raises(DamagedVideo) as caught:
        open_video(half_of(path, "cut.flv")).check()
    assert caught.value.total == 48


@pytest.mark.parametrize(
    ("name", "codec", "kind"), [("a.gif", "", "gif"), ("a.ogv", "libvpx", "ogg"), ("a.mkv", "ffv1", "matroska")]
)
def test_every_cut_is_looked_at_without_an_error(tmp_path: Path, name: str, codec: str, kind: str) -> None:
    """Whatever is left of a file, and whatever is behind it; other formats are not looked at."""
    path = tmp_path / name
    if codec:
        write_timed(path, bars(PLACES[:9]), TIMES[:9], codec)
    else:
        write_animation(path, bars(PLACES[:9]), [100] * 9)
    data = path.read_bytes()
    assert not is_broken(BytesIO(data), [kind])
    assert is_broken(BytesIO(data[: len(data) // 2]), [kind])
    assert not is_broken(BytesIO(data[: len(data) // 2]), ["mov"])
    for length in range(0, len(data), 7):
        for behind in (0, 40):
            is_broken(BytesIO(data[:length] + bytes(behind)), [kind])


@pytest.mark.parametrize("length", range(0, 60, 3))
def test_a_header_of_asf_is_looked_at_without_an_error(length: int) -> None:
    is_broken(BytesIO(b"\xff" * length), ["asf"])


@pytest.mark.parametrize(
    ("corrupt", "keyframes", "late", "breaks"),
    [
        ((), (0, 12), 0, 0),
        ((5,), (0, 12), 0, 1),
        ((5, 6, 7, 15), (0, 12), 0, 2),
        ((10,), (0, 12), 0, 0),
        ((11,), (0, 12), 0, 0),
        ((11,), (0, 12), 4, 1),
        ((19,), (0, 12), 0, 1),
        ((1, 2), (4,), 0, 0),
    ],
)
def test_a_seam_is_no_break(corrupt: tuple[int, ...], keyframes: tuple[int, ...], late: int, breaks: int) -> None:
    """A seam goes on with a keyframe, without a pause; what comes before the first keyframe was never whole."""
    packets = Packets()
    for place in range(20):
        time = 10 * (place + (late if place >= 12 else 0))
        facts = {"is_corrupt": place in corrupt, "is_keyframe": place in keyframes, "is_discard": False}
        packets.add(SimpleNamespace(pts=time, duration=0, **facts))
    assert packets.breaks == breaks
    assert (packets.last, packets.end, packets.gaps) == (10, 200 + 10 * late, late)
