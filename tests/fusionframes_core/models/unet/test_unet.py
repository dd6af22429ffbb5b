"""Laws of the shared trunk and of the text-to-image U-Net."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from fusionframes_core.models.layers import Alpha, TorchOperations
from fusionframes_core.models.unet.unet import KeyframeCondition, UNet, initialise
from fusionframes_core.models.unet.unet_layers import ConditionalGroupNorm
from tests.helpers.unet_cases import IMAGE, close, condition, frame_by_frame, image_unet, randomise, video_config


@torch.no_grad()
def test_image_unet_treats_frames_one_by_one() -> None:
    unet, x, t, seen = image_unet(), torch.randn(2, 4, 3, 8, 6), torch.tensor([3, 700]), condition(2)
    out = unet(x, t, seen)
    assert out.shape == (2, 4, 3, 8, 6)
    assert close(out, frame_by_frame(unet, x, t, seen))


@torch.no_grad()
def test_videos_of_a_batch_do_not_see_each_other() -> None:
    unet = randomise(UNet(video_config("conv1d_attn1d_blocks", motion_score=True, noise_augmentation=True)))
    seen = condition(3, 4, motion_score=torch.tensor([1, 20, 80]), noise_augmentation=torch.tensor([0, 5, 40]))
    x, t = torch.randn(3, 4, 4, 8, 6), torch.tensor([1, 500, 999])
    whole = unet(x, t, seen)
    for i in range(3):
        one = slice(i, i + 1)
        alone = KeyframeCondition(
            seen.context[one], seen.mask[one], seen.positions[one], seen.motion_score[one], seen.noise_augmentation[one]
        )
        assert close(unet(x[one], t[one], alone), whole[one])


@torch.no_grad()
@pytest.mark.parametrize("what", ["context", "time", "positions", "motion_score", "noise_augmentation", "mask"])
def test_every_condition_counts(what: str) -> None:
    unet = randomise(UNet(video_config("conv1d_attn1d_blocks", motion_score=True, noise_augmentation=True)))
    seen = condition(1, 3, motion_score=torch.tensor([10]), noise_augmentation=torch.tensor([20]))
    x, t = torch.randn(1, 4, 3, 8, 6), torch.tensor([400])
    before = unet(x, t, seen)
    if what == "time":
        t = t + 100
    elif what == "mask":
        seen.mask = ~seen.mask
    else:
        setattr(seen, what, getattr(seen, what) + 5)
    assert not close(unet(x, t, seen), before, 1e-3)


def test_gradients_reach_every_parameter_and_inference_gives_the_same() -> None:
    unet = randomise(UNet(video_config("conv1d_attn1d_blocks")))
    x, t, seen = torch.randn(2, 4, 3, 8, 6), torch.tensor([3, 700]), condition(2, 3)
    out = unet(x, t, seen)
    with torch.no_grad():
        assert torch.allclose(unet(x, t, seen), out, atol=1e-6)
    out.square().mean().backward()
    dead = [name for name, p in unet.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


def test_every_layer_comes_from_the_operations() -> None:
    made: list[nn.Module] = []

    def counted(kind: type) -> type:
        class Counted(kind):  # type: ignore[misc, valid-type]
            def __init__(self, *args, **kwargs) -> None:
                super().__init__(*args, **kwargs)
                made.append(self)

        return Counted

    names = ("Linear", "Conv2d", "Conv3d", "ConvTranspose2d", "GroupNorm", "LayerNorm", "Embedding")
    operations = type("Operations", (), {name: counted(getattr(nn, name)) for name in names} | {"Alpha": Alpha})
    unet = UNet(video_config("conv3d_attn1d_blocks", image_input=True), operations=operations)
    owners = [module for module in unet.modules() if list(module.parameters(recurse=False))]
    assert owners
    assert {id(module) for module in owners} == {id(module) for module in made}


def test_constructors_place_parameters_where_they_are_told() -> None:
    unet = UNet(video_config("conv1d_attn3d_blocks"), TorchOperations, device="meta", dtype=torch.bfloat16)
    assert {(p.device.type, p.dtype) for p in unet.parameters()} == {("meta", torch.bfloat16)}


@torch.no_grad()
def test_runs_in_half_precision_and_under_autocast() -> None:
    unet, x, t, seen = image_unet(), torch.randn(1, 4, 1, 8, 8), torch.tensor([500]), condition(1)
    expected = unet(x, t, seen)
    with torch.autocast("cpu", torch.bfloat16):
        assert close(unet(x, t, seen).float(), expected, 0.1)
    seen.context = seen.context.bfloat16()
    out = unet.bfloat16()(x.bfloat16(), t, seen)
    assert out.dtype == torch.bfloat16
    assert close(out.float(), expected, 0.1)


@torch.no_grad()
def test_stills_use_the_image_input_layer_and_no_temporal_part() -> None:
    unet = randomise(UNet(video_config("conv1d_attn1d_blocks", image_input=True)))
    x, t, seen = torch.randn(2, 4, 3, 8, 6), torch.tensor([3, 700]), condition(2, image=True)
    out = unet(x, t, seen)
    assert close(out, frame_by_frame(unet, x, t, seen))
    nn.init.zeros_(unet.in_layer.weight)
    assert torch.equal(unet(x, t, seen), out)
    unet.image_in_layer.weight.zero_()
    assert not close(unet(x, t, seen), out, 1e-3)


def test_initialise_makes_every_norm_neutral() -> None:
    unet = image_unet()
    initialise(unet)
    norms = [module for module in unet.modules() if isinstance(module, ConditionalGroupNorm)]
    assert norms
    assert all(not p.any() for norm in norms for p in norm.modulation.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temporal": "conv2d"}, "temporal must be one of conv1d_attn1d_blocks, .*none; got 'conv2d'"),
        ({"temporal_conditioning": "product"}, "temporal_conditioning must be one of separate, sum.*; got 'product'"),
        ({"num_blocks": (2, 2, 2)}, "num_blocks must have one entry per channel_mult"),
        ({"num_blocks": (2, 1)}, "num_blocks must be at least 2"),
        ({"groups": 5}, "groups must divide every width of the U-Net; got 5 and 16"),
    ],
)
def test_configs_that_do_not_fit_are_refused_in_words(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNet(replace(IMAGE, **changes), device="meta")


def test_inputs_that_do_not_fit_are_refused_in_words() -> None:
    unet = UNet(video_config("conv1d_attn1d_blocks"))
    with pytest.raises(ValueError, match="positions must be given"):
        unet(torch.randn(1, 4, 2, 8, 8), torch.tensor([1]), condition(1))
    with pytest.raises(ValueError, match="multiples of 2; got \\(7, 8\\)"):
        unet(torch.randn(1, 4, 2, 7, 8), torch.tensor([1]), condition(1, 2))
