"""1.1 keyframes continue an image, given or drawn; motion is a name or a number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fusionframes_core.media.frames import fit_image
from fusionframes_core.models.tokenizer import load_tokenizer
from fusionframes_core.pipeline import FusionFramesPipeline
from fusionframes_core.sampling.first_frame import augment_with_noise
from fusionframes_core.settings import GenerationSettings, motion_score
from tests.helpers.official_cases import PRESETS, small_parts

FAST: dict[str, Any] = {"num_frames": 3, "steps": 2, "size": (16, 16), "passes": 0}


@pytest.fixture(scope="module")
def pipe(micro_folder: Path) -> FusionFramesPipeline:
    return FusionFramesPipeline(small_parts("1.1", load_tokenizer(micro_folder)))


def test_the_first_image_shapes_the_video(pipe: FusionFramesPipeline) -> None:
    red, blue = torch.full((2, 3, 20, 24), -1.0)
    red[0], blue[2] = 1.0, 1.0
    drawn, from_red, from_blue = (pipe("x", image=image, **FAST).keyframe_latents for image in (None, red, blue))
    assert not torch.allclose(from_red, from_blue, atol=1e-4)
    assert not torch.allclose(from_red, drawn, atol=1e-4)
    both = pipe(["x", "x"], image=torch.stack([red, blue]), **FAST).keyframe_latents
    assert torch.allclose(both[:1], from_red, atol=2e-3)


def test_the_image_autoencoder_encodes_the_image_and_the_video_one_does_not(
    pipe: FusionFramesPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    parts = pipe.parts
    assert parts.image_movq is not None
    encode = parts.image_movq.encode
    monkeypatch.setattr(parts.image_movq, "encode", lambda pixels: seen.append(pixels.shape) or encode(pixels))
    monkeypatch.setattr(parts.movq, "encode", None)
    pipe("x", image=torch.zeros(3, 40, 24), **FAST)
    assert seen == [(1, 3, 1, 16, 16)]


@pytest.mark.parametrize("image", [torch.zeros(1, 16, 16), torch.zeros(3, 3, 16, 16), torch.zeros(16, 16)])
def test_an_image_of_another_shape_is_refused(pipe: FusionFramesPipeline, image: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"image must be \(3, H, W\)"):
        pipe(["x", "y"], image=image, **FAST)


def test_fitting_an_image_agrees_with_the_official_resizing() -> None:
    """Pillow's bicubic resize and a centre crop; ours differs by its rounding to 8 bits alone."""
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    generator = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(1, 3, 6, 9, generator=generator), (60, 90), mode="bilinear")
    picture = pillow.fromarray((smooth[0].permute(1, 2, 0) * 255).round().byte().numpy())
    smaller = picture.resize((48, 32)).crop((8, 0, 40, 32))
    pixels, expected = (torch.tensor(np.array(image)).permute(2, 0, 1) / 127.5 - 1 for image in (picture, smaller))
    assert (fit_image(pixels[None], (32, 32))[0] - expected).abs().max() < 1.5 / 127.5
    assert fit_image(pixels[None], (128, 64)).shape == (1, 3, 128, 64)


def test_noise_on_the_image_is_uniform_in_1_1_and_gaussian_by_name() -> None:
    schedule, latent = PRESETS["1.1"].keyframe_schedule, torch.zeros(1, 4, 1, 64, 64)

    def noise(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))

    uniform, gaussian = (augment_with_noise(latent, 500, kind, schedule, noise) for kind in ("uniform", "gaussian"))
    assert uniform.min() >= 0
    assert abs(uniform.mean() / uniform.max() - 0.5) < 0.01
    assert abs(gaussian.mean() / gaussian.std()) < 0.05
    assert PRESETS["1.1"].image_noise == "uniform"
    with pytest.raises(ValueError, match="image_noise must be one of gaussian, uniform; got 'none'"):
        augment_with_noise(latent, 500, "none", schedule, noise)


def test_motion_is_a_name_or_a_number() -> None:
    assert [motion_score(name) for name in ("low", "medium", "high", "extreme", "30", 7.5)] == [1, 10, 50, 100, 30, 7.5]
    for bad in ("normal", "-1", 1e9, float("nan"), True):
        with pytest.raises(ValueError, match="motion must be one of low, medium, high, extreme; got"):
            motion_score(bad)
    assert GenerationSettings(motion="30").resolve(PRESETS["1.1"]).motion == "30"
