"""The small video of keyframes that a sampling node shows when they are done."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from PIL import Image

from fusionframes_core.media.latent_preview import PLAIN_COLOURS

MODEL = SimpleNamespace(
    model=SimpleNamespace(pixels_per_latent=8, latent_format=SimpleNamespace(colours=PLAIN_COLOURS))
)


@pytest.mark.parametrize(("count", "shown"), [(5, 5), (100, 64)])
def test_it_has_the_size_and_the_length_of_the_video(
    nodes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, shown: int
) -> None:
    """One frame a keyframe at its size; of a long video some, spread over its whole length; a caption says the size."""
    where = (str(tmp_path), "keyframes", 7, "FusionFrames", "FusionFrames/keyframes")
    monkeypatch.setattr("folder_paths.get_temp_directory", lambda: str(tmp_path))
    monkeypatch.setattr("folder_paths.get_save_image_path", lambda *_: where)
    latents = torch.linspace(-1, 1, count)[None, None, :, None, None].expand(2, 4, count, 3, 6)
    (video,) = nodes.host.keyframe_video(MODEL, latents, fps=2.0)["fusionframes_keyframes"]
    assert video == {
        "filename": "keyframes_00007_.webp",
        "subfolder": "FusionFrames",
        "type": "temp",
        "caption": f"48×24 pixels, {count} keyframes, 2 a second",
    }
    with Image.open(tmp_path / video["filename"]) as picture:
        assert picture.size == (48, 24)
        frames = getattr(picture, "n_frames", 1)
        assert 4 <= frames <= shown  # of neighbours that look the same WebP keeps one, for as long as both
        levels, lasts = [], 0
        for index in range(frames):
            picture.seek(index)
            levels.append(picture.convert("RGB").getpixel((24, 12))[0])
            lasts += picture.info["duration"]
    assert levels == sorted(levels)
    assert levels[-1] - levels[0] > 100
    assert lasts == pytest.approx(1000 * count / 2, rel=0.02)
