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


def official_image(picture: Any, width: int, height: int) -> torch.Tensor:
    """What 1.1's code makes of a picture: as large as the video or larger, never enlarged, cut out by PIL's crop."""
    factor = max(1, min(picture.size[0] / width, picture.size[1] / height))
    picture = picture.resize((round(picture.size[0] / factor), round(picture.size[1] / factor)))
    left, top = (picture.size[0] - width) / 2, (picture.size[1] - height) / 2
    picture = picture.crop((left, top, left + width, top + height)).convert("RGB")
    return torch.tensor(np.array(picture)).permute(2, 0, 1) / 127.5 - 1


def random_picture(size: tuple[int, int], mode: str = "RGB") -> Any:
    """Smooth noise, so that a shift by one pixel shows."""
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    coarse = np.random.default_rng(3).random((size[1] // 16 + 2, size[0] // 16 + 2, len(mode))) * 255
    return pillow.fromarray(coarse.astype(np.uint8)).resize(size, pillow.Resampling.BICUBIC)


CROPS = [
    *(((1024, 768), (512, 512)), ((800, 600), (512, 512)), ((4032, 3024), (512, 512)), ((1280, 720), (640, 384))),
    *(((512, 512), (512, 512)), ((1920, 1080), (512, 512)), ((600, 800), (512, 512)), ((513, 700), (512, 512))),
]
SMALL = [((256, 256), (512, 512)), ((400, 300), (512, 512)), ((400, 151), (128, 64)), ((1000, 401), (512, 512))]


@pytest.mark.parametrize(("given", "size"), CROPS)
@pytest.mark.parametrize("fit", ["cover", "official"])
def test_large_images_are_cropped_where_the_official_code_crops_them(
    given: tuple[int, int], size: tuple[int, int], fit: str
) -> None:
    """By the official name to the bit, else within the rounding of PIL's 8 bits; one pixel off is ten levels."""
    picture = random_picture(given)
    pixels = torch.tensor(np.array(picture)).permute(2, 0, 1)[None] / 127.5 - 1
    found, wanted = fit_image(pixels, size[::-1], fit)[0], official_image(picture, *size)
    assert (found - wanted).abs().max() < (1e-6 if fit == "official" else 3 / 127.5)
    assert (found - torch.roll(wanted, 1, dims=2)).abs().max() > 10 / 127.5


@pytest.mark.parametrize(("given", "size"), SMALL)
def test_small_images_get_black_borders_by_the_official_name_only(
    given: tuple[int, int], size: tuple[int, int]
) -> None:
    picture = random_picture(given)
    pixels = torch.tensor(np.array(picture)).permute(2, 0, 1)[None] / 127.5 - 1
    found = fit_image(pixels, size[::-1], "official")[0]
    assert (found - official_image(picture, *size)).abs().max() < 1e-6
    smaller = given[0] < size[0] or given[1] < size[1]
    assert bool((found == -1).all(dim=0).any()) == smaller
    assert fit_image(pixels, size[::-1]).shape == (1, 3, *size[::-1])
    with pytest.raises(ValueError, match="image_fit must be one of cover, official; got 'stretch'"):
        fit_image(pixels, size[::-1], "stretch")


def test_transparent_images_are_scaled_as_pil_scales_them() -> None:
    """Colours count by their alpha; "cover" takes them as they are."""
    picture = random_picture((800, 640)).resize((100, 80), 0)
    picture.putalpha(picture.getchannel(0).point(lambda value: 255 if value > 128 else 60))
    pixels = torch.tensor(np.array(picture)).permute(2, 0, 1)[None] / 127.5 - 1
    found, wanted = fit_image(pixels, (32, 32), "official")[0], official_image(picture, 32, 32)
    assert (found - wanted).abs().max() < 1e-6
    plain = fit_image(pixels, (32, 32))[0]
    assert torch.equal(plain, fit_image(pixels[:, :3], (32, 32))[0])
    assert (plain - wanted).abs().mean() > 6 / 127.5


def test_finer_values_are_cut_off_by_the_official_name() -> None:
    """A drawn image has more than 255 levels; a file's levels stay what they are, whatever float32 makes of them."""
    levels = torch.arange(256.0)[None, None, None].expand(1, 3, 2, 256)
    whole, finer = levels / 127.5 - 1, (levels + 0.9).clamp(max=255) / 127.5 - 1
    for pixels in (whole, whole.add(1).div(2).mul(2).sub(1), finer):
        assert torch.equal(fit_image(pixels, (2, 256), "official"), whole)
    assert torch.equal(fit_image(finer, (2, 256)), finer)


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
    assert motion_score("normal") == motion_score("medium")  # the official code's name of its own default
    for bad in ("fast", "-1", 1e9, float("nan"), True):
        with pytest.raises(ValueError, match="motion must be one of low, medium, high, extreme; got"):
            motion_score(bad)
    assert GenerationSettings(motion="30").resolve(PRESETS["1.1"]).motion == "30"
