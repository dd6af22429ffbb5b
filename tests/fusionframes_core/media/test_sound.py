"""Sound goes with the pictures: copied where MP4 holds it, else encoded, and never out of step."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from fusionframes_core.media import sound
from fusionframes_core.media.mp4_writer import mp4_writer
from fusionframes_core.media.read_video import open_video, read_video
from fusionframes_core.media.sound import Sound
from fusionframes_core.media.write_video import written_otherwise
from tests.helpers.video_files import audio_packets, bars, loud_from, remux_late, write_with_sound

PLACES = [i % 50 for i in range(32)]
FRAME = 1 / 16


def rewrite(source: Path, out: Path, end: float | None = None) -> None:
    """The pictures of a file and its sound, written anew."""
    video = open_video(source)
    assert video.facts.sounds == 1
    with mp4_writer(out, video.facts.timeline.rate, Sound(source, video.facts.start, end)) as writer:
        for picture in video.pictures():
            writer.write(picture)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_what_mp4_holds_is_copied(tmp_path: Path, name: str) -> None:
    source = write_with_sound(tmp_path / name, bars(PLACES), 16)
    rewrite(source, tmp_path / "out.mp4")
    before, after = audio_packets(source), audio_packets(tmp_path / "out.mp4")
    assert len(before) == len(after)
    if not name.endswith("ts"):  # whose packets begin with a header each
        assert [packet for _, packet in before] == [packet for _, packet in after]
    assert loud_from(tmp_path / "out.mp4") == pytest.approx(0.5, abs=FRAME / 2)
    assert len(read_video(tmp_path / "out.mp4")[0]) == 32


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "pcm_s16le"), ("a.mkv", "mp2")])
def test_what_mp4_does_not_hold_is_encoded(tmp_path: Path, name: str, codec: str) -> None:
    import av

    source = write_with_sound(tmp_path / name, bars(PLACES), 16, codec, video="mpeg4")
    rewrite(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.audio[0]
        assert stream.codec_context.name == "aac"
        assert float(stream.duration * stream.time_base) == pytest.approx(2, abs=FRAME)
    assert loud_from(tmp_path / "out.mp4") == pytest.approx(0.5, abs=FRAME / 2)


@pytest.mark.parametrize(
    ("codec", "rate", "after"), [("libmp3lame", 44100, "mp3float"), ("libmp3lame", 11025, "aac"), ("ac3", 44100, "ac3")]
)
@pytest.mark.parametrize("name", ["a.avi", "a.mkv"])
@pytest.mark.parametrize("copied", [True, False])
def test_sound_of_packets_that_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, rate: int, after: str, name: str, copied: bool
) -> None:
    """A tick of AVI is a packet. MP4 holds MP3, whatever its decoder is called, but not of the lowest rates."""
    import av

    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    if not copied:
        monkeypatch.setattr(sound, "_COPIED", ())
    source = write_with_sound(tmp_path / name, bars(PLACES), 16, codec, video="mpeg4", sample_rate=rate)
    rewrite(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.audio[0].codec_context.name == (after if copied else "aac")
    assert loud_from(tmp_path / "out.mp4") == pytest.approx(loud_from(source), abs=0.01)


def test_an_error_of_the_output_is_not_one_of_the_input(tmp_path: Path) -> None:
    source = write_with_sound(tmp_path / "a.mp4", bars(PLACES), 16)
    with pytest.raises(OSError, match="No space left"), Sound(source).opened():
        raise OSError(errno.ENOSPC, "No space left on device")


def test_pictures_that_begin_later_than_the_sound_stay_later(tmp_path: Path) -> None:
    import av

    whole = write_with_sound(tmp_path / "a.mp4", bars(PLACES), 16)
    source = remux_late(whole, tmp_path / "late.mkv", "video", 0.25)
    assert open_video(source).facts.start == pytest.approx(0.25, abs=0.03)
    rewrite(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        first = next(container.decode(video=0))
        assert first.time == pytest.approx(0.25, abs=FRAME)
    assert loud_from(tmp_path / "out.mp4") == pytest.approx(0.5, abs=0.03)


def test_the_sound_of_a_shortened_video_ends_with_it(tmp_path: Path) -> None:
    source = write_with_sound(tmp_path / "a.mp4", bars(PLACES), 16)
    rewrite(source, tmp_path / "out.mp4", end=1.0)
    assert audio_packets(tmp_path / "out.mp4")[-1][0] == pytest.approx(1.0, abs=0.05)


def test_damaged_sound_is_said_or_left_out(tmp_path: Path) -> None:
    source = write_with_sound(tmp_path / "a.mkv", bars(PLACES), 16, "mp2")
    data = bytearray(source.read_bytes())
    for _, packet in audio_packets(source)[20:40]:
        place = data.find(packet)
        data[place : place + len(packet)] = b"\xff" * len(packet)
    source.write_bytes(data)
    video = open_video(source)
    with pytest.raises(ValueError, match="its sound cannot be read"):
        rewrite(source, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()
    with mp4_writer(tmp_path / "out.mp4", 16, Sound(source, allow_damaged=True)) as writer:
        for picture in video.pictures():
            writer.write(picture)
    assert audio_packets(tmp_path / "out.mp4")


def test_what_has_no_sound_says_so(tmp_path: Path) -> None:
    assert written_otherwise(tmp_path / "a.mp4", 24, 1) == []
    assert written_otherwise(tmp_path / "a.gif", 24, 1) == ["the sound is left out: a GIF has none"]
    assert written_otherwise(tmp_path / "a", 24, 1) == ["the sound is left out: a folder of pictures has none"]
    assert written_otherwise(tmp_path / "a", 24, 0) == []


def test_nothing_is_left_of_a_video_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one"), mp4_writer(tmp_path / "out.mp4", 16):
        pass
    with pytest.raises(RuntimeError, match="half"), mp4_writer(tmp_path / "out.mp4", 16) as writer:
        writer.write(np.zeros((16, 16, 3), np.uint8))
        raise RuntimeError("half")
    assert list(tmp_path.iterdir()) == []
