"""Laws of the temporal conditionings and of inflation to a keyframe model (paper, section 4.1)."""

from __future__ import annotations

import pytest
import torch

from fusionframes_core.models.temporal import initialise_temporal, temporal_parameters
from fusionframes_core.models.unet.keyframe_unet import frame_positions, freeze_spatial, inflate_keyframe
from fusionframes_core.models.unet.temporal_layers import TEMPORAL_BLOCKS
from fusionframes_core.models.unet.unet import TEMPORAL_CONDITIONING, UNet
from fusionframes_core.models.unet.unet_layers import TEMPORAL_NORMS, TrunkCondition
from tests.helpers.unet_cases import IMAGE, close, condition, frame_by_frame, image_unet, randomise, video_config

VIDEO = [name for name in TEMPORAL_BLOCKS if name != "none"]


def test_the_five_conditionings_of_the_paper() -> None:
    blocks = {"conv1d_attn1d_blocks", "conv3d_attn1d_blocks", "conv1d_attn3d_blocks", "conv1d_attn1d_layers", "none"}
    assert set(TEMPORAL_BLOCKS) >= blocks


@torch.no_grad()
@pytest.mark.parametrize("place", TEMPORAL_NORMS)
@pytest.mark.parametrize("conditioning", TEMPORAL_CONDITIONING)
@pytest.mark.parametrize("temporal", VIDEO)
def test_freshly_inflated_equals_the_image_model_frame_by_frame(temporal: str, conditioning: str, place: str) -> None:
    image = image_unet()
    config = video_config(temporal, temporal_conditioning=conditioning, temporal_place=place)
    video = inflate_keyframe(image, config)
    x, t, seen = torch.randn(2, 4, 5, 8, 6), torch.tensor([3, 700]), condition(2, 5)
    assert close(video(x, t, seen), frame_by_frame(image, x, t, seen))


@torch.no_grad()
@pytest.mark.parametrize("temporal", VIDEO)
def test_trained_frames_see_all_the_others_near_enough(temporal: str) -> None:
    video = randomise(UNet(video_config(temporal)))
    x, t, seen = torch.randn(1, 4, 4, 8, 6), torch.tensor([300]), condition(1, 4)
    changed = x.clone()
    changed[:, :, 3] += 1
    difference = (video(x, t, seen) - video(changed, t, seen)).abs().amax(dim=(0, 1, 3, 4))
    assert (difference > 1e-4).all()


@torch.no_grad()
@pytest.mark.parametrize("temporal", VIDEO)
def test_initialise_temporal_undoes_training(temporal: str) -> None:
    image = image_unet()
    video = inflate_keyframe(image, video_config(temporal))
    for _, parameter in temporal_parameters(video):
        parameter.add_(torch.randn(parameter.shape) * 0.1)
    x, t, seen = torch.randn(1, 4, 3, 8, 6), torch.tensor([300]), condition(1, 3)
    expected = frame_by_frame(image, x, t, seen)
    assert not close(video(x, t, seen), expected, 1e-3)
    seen.image = True
    assert close(video(x, t, seen), expected)
    seen.image = False
    initialise_temporal(video)
    assert close(video(x, t, seen), expected)


@pytest.mark.parametrize("temporal", VIDEO)
def test_only_temporal_parts_train_and_they_start_to_move(temporal: str) -> None:
    image = image_unet()
    video = inflate_keyframe(image, video_config(temporal))
    freeze_spatial(video)
    names = {name for name, _ in temporal_parameters(video)}
    assert names
    assert {name for name, _ in video.named_parameters()} - names == {name for name, _ in image.named_parameters()}
    assert {name for name, p in video.named_parameters() if p.requires_grad} == names
    optimizer = torch.optim.SGD([p for p in video.parameters() if p.requires_grad], lr=0.3)
    start = {name: p.detach().clone() for name, p in video.named_parameters()}
    for _ in range(3):
        optimizer.zero_grad()
        video(torch.randn(1, 4, 3, 8, 6), torch.tensor([300]), condition(1, 3)).square().mean().backward()
        optimizer.step()
    moved = {name for name, p in video.named_parameters() if not torch.equal(p, start[name])}
    assert moved == names


def test_window_attention_has_exactly_the_parameters_of_attention_along_time() -> None:
    along, windows = UNet(video_config("conv1d_attn1d_blocks")), UNet(video_config("conv1d_attn3d_blocks"))
    shapes = [{name: p.shape for name, p in unet.named_parameters()} for unet in (along, windows)]
    assert shapes[0] == shapes[1]


def test_conv3d_keeps_the_parameter_count_comparable() -> None:
    counts = {
        name: sum(p.numel() for _, p in temporal_parameters(UNet(video_config(name), device="meta")))
        for name in ("conv1d_attn1d_blocks", "conv3d_attn1d_blocks")
    }
    assert 0.75 < counts["conv3d_attn1d_blocks"] / counts["conv1d_attn1d_blocks"] < 1.25


@torch.no_grad()
def test_window_attention_sees_its_square_and_nothing_beyond() -> None:
    video = randomise(UNet(video_config("conv1d_attn3d_blocks")))
    block = video.up_samples[-1].temporal_attention_block
    frame = torch.randn(3, 32)
    seen = TrunkCondition(3, True, frame[:1], frame, frame, torch.zeros(1), torch.zeros(1))
    block.in_norm.forward = lambda x, *_, **__: x  # the norm's statistics see the whole frame
    x = torch.randn(3, 16, 5, 4)
    changed = x.clone()
    changed[2, :, 0, 0] += 1
    reached = (block.attend(x, seen) - block.attend(changed, seen)).abs().amax(dim=1) > 1e-6
    expected = torch.zeros(3, 5, 4, dtype=torch.bool)
    expected[:, :2, :2] = True
    assert torch.equal(reached, expected)


@torch.no_grad()
def test_additional_input_channels_start_without_effect() -> None:
    image = image_unet()
    video = inflate_keyframe(image, video_config("conv1d_attn1d_blocks", in_channels=9, image_input=True))
    x, t, seen = torch.randn(1, 9, 3, 8, 6), torch.tensor([300]), condition(1, 3)
    expected = frame_by_frame(image, x[:, :4], t, seen)
    assert close(video(x, t, seen), expected)
    seen.image = True
    assert close(video(x, t, seen), expected)


def test_an_image_model_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="the image U-Net does not fit"):
        inflate_keyframe(UNet(IMAGE), video_config("conv1d_attn1d_blocks", channel_mult=(1, 1)))


def test_frame_positions() -> None:
    assert frame_positions("spread", 15).tolist() == list(range(0, 180, 12))
    assert frame_positions("index", 4).tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="frame_positions must be one of spread, index; got 'other'"):
        frame_positions("other", 4)
    with pytest.raises(ValueError, match="num_frames must be from 1 to 180; got 0"):
        frame_positions("index", 0)
