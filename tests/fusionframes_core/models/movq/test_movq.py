"""Laws of the MoVQ autoencoder: shapes, independence, batches, sizes, and what it refuses."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from fusionframes_core.models.movq.movq import MoVQ
from fusionframes_core.models.movq.movq_temporal import DECODERS
from fusionframes_core.models.temporal import temporal_parameters
from tests.helpers.movq_cases import OFFICIAL, SMALL, random_latents, random_movq


@torch.no_grad()
def test_shapes_and_range() -> None:
    movq = random_movq(decoder="conv1_attn")
    assert movq.factor == 4
    latents = movq.encode(torch.randn(2, 3, 5, 16, 24) * 100)
    assert latents.shape == (2, 4, 5, 4, 6)
    assert latents.abs().max() <= 1
    assert movq.decode(latents).shape == (2, 3, 5, 16, 24)


@torch.no_grad()
def test_latents_are_not_bounded_without_activation() -> None:
    movq = random_movq(latent_activation="none")
    movq.quant_conv.bias.fill_(5.0)
    assert movq.encode(torch.randn(1, 3, 1, 16, 16)).max() > 1


@pytest.mark.parametrize(("patch_size", "channel_mult"), [(1, (1,)), (1, (1, 1, 2)), (4, (1,)), (3, (2, 1))])
@torch.no_grad()
def test_factor(patch_size: int, channel_mult: tuple[int, ...]) -> None:
    movq = random_movq(patch_size=patch_size, channel_mult=channel_mult, attention_levels=())
    pixels = torch.randn(1, 3, 1, 2 * movq.factor, 3 * movq.factor)
    latents = movq.encode(pixels)
    assert latents.shape == (1, 4, 1, 2, 3)
    assert movq.decode(latents).shape == pixels.shape


@torch.no_grad()
def test_frames_are_encoded_alone() -> None:
    movq = random_movq(decoder="conv3_attn")
    pixels = torch.randn(2, 3, 4, 16, 16)
    alone = torch.cat([movq.encode(pixels[:, :, index : index + 1]) for index in range(4)], dim=2)
    torch.testing.assert_close(movq.encode(pixels), alone)


@pytest.mark.parametrize("attention_norm", ["per_frame", "first_frame"])
@pytest.mark.parametrize("decoder", DECODERS)
@torch.no_grad()
def test_without_time_frames_are_decoded_alone(decoder: str, attention_norm: str) -> None:
    movq = random_movq(decoder=decoder, attention_norm=attention_norm)
    latents = random_latents()
    alone = torch.cat([movq.decode(latents[:, :, i : i + 1], temporal=False) for i in range(5)], dim=2)
    torch.testing.assert_close(movq.decode(latents, temporal=False), alone)


@pytest.mark.parametrize("attention_norm", ["per_frame", "first_frame"])
@pytest.mark.parametrize("decoder", DECODERS)
@torch.no_grad()
def test_a_frame_is_seen_by_its_neighbours_as_declared(decoder: str, attention_norm: str) -> None:
    movq = random_movq(decoder=decoder, attention_norm=attention_norm)
    latents = random_latents(batch=1)
    changed = latents.clone()
    changed[:, :, 0] += 1
    difference = (movq.decode(changed) - movq.decode(latents)).abs().amax(dim=(0, 1, 3, 4))
    assert difference[0] > 1e-3
    assert movq.frames_are_independent == (decoder == "image" and attention_norm == "per_frame")
    if movq.frames_are_independent:
        assert difference[1:].max() == 0
    else:
        assert difference[1] > 1e-5


@torch.no_grad()
def test_first_frame_modulates_only_where_official_code_does() -> None:
    latents = random_latents(batch=1)
    same = latents[:, :, :1].expand_as(latents)
    quirk = random_movq(attention_norm="first_frame")
    plain = MoVQ(dataclasses.replace(quirk.config, attention_norm="per_frame"))
    plain.load_state_dict(quirk.state_dict())
    assert not torch.allclose(quirk.decode(latents)[:, :, 1:], plain.decode(latents)[:, :, 1:], atol=1e-4)
    torch.testing.assert_close(quirk.decode(latents)[:, :, 0], plain.decode(latents)[:, :, 0])
    torch.testing.assert_close(quirk.decode(same), plain.decode(same))


@pytest.mark.parametrize("attention_norm", ["per_frame", "first_frame"])
@pytest.mark.parametrize("decoder", DECODERS)
@torch.no_grad()
def test_a_batch_is_its_videos(decoder: str, attention_norm: str) -> None:
    movq = random_movq(decoder=decoder, attention_norm=attention_norm)
    latents = random_latents(batch=3)
    decoded = movq.decode(latents)
    alone = torch.cat([movq.decode(video[None]) for video in latents])
    torch.testing.assert_close(decoded, alone)
    torch.testing.assert_close(movq.decode(latents[[2, 0, 1]]), decoded[[2, 0, 1]])


@pytest.mark.parametrize("decoder", ["conv1_attn", "conv3_attn", "resnet_attn", "conv2d_to_3d"])
@torch.no_grad()
def test_time_has_a_direction_only_in_convolutions(decoder: str) -> None:
    """Flipping every kernel along time and the video along time gives the flipped result."""
    movq = random_movq(decoder=decoder)
    latents = random_latents(batch=1)
    decoded = movq.decode(latents)
    for parameter in movq.decoder.parameters():
        if parameter.ndim == 5:
            parameter.copy_(parameter.flip(2))
    torch.testing.assert_close(movq.decode(latents.flip(2)), decoded.flip(2))


@torch.no_grad()
def test_convex_merge_at_one_keeps_only_the_temporal_branch() -> None:
    convex = random_movq(decoder="conv1", temporal_merge="convex")
    residual = MoVQ(dataclasses.replace(convex.config, temporal_merge="residual"))
    residual.load_state_dict(convex.state_dict())
    latents = random_latents(batch=1)
    for movq in (convex, residual):
        for name, parameter in temporal_parameters(movq):
            if name.endswith("merge.weight"):
                parameter.fill_(1.0)
            elif parameter.ndim == 5:
                torch.nn.init.dirac_(parameter)
            else:
                parameter.zero_()
    # the temporal branch is now the identity: x with the convex merge, x + x with the residual one
    torch.testing.assert_close(convex.decode(latents), convex.decode(latents, temporal=False))
    assert not torch.allclose(residual.decode(latents), residual.decode(latents, temporal=False), atol=1e-3)


@pytest.mark.parametrize(
    ("decoder", "millions"),
    [
        ("image", 161.1),
        ("conv1", 203.2),
        ("conv3", 539.8),
        ("conv1_attn", 220.1),
        ("conv3_attn", 556.6),
        ("resnet_attn", 220.3),
        ("conv2d_to_3d", 419.5),
    ],
)
def test_parameters_of_table_3(decoder: str, millions: float) -> None:
    movq = MoVQ(dataclasses.replace(OFFICIAL, decoder=decoder), device="meta")
    assert round(sum(parameter.numel() for parameter in movq.decoder.parameters()) / 1e6, 1) == millions


@torch.no_grad()
def test_dtype_is_kept() -> None:
    movq = MoVQ(dataclasses.replace(SMALL, decoder="conv1_attn"), dtype=torch.bfloat16)
    assert movq.decode(movq.encode(torch.randn(1, 3, 2, 16, 16, dtype=torch.bfloat16))).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder": "conv2"}, "decoder must be one of image, conv1, .*; got 'conv2'"),
        ({"attention_norm": "last"}, "attention_norm must be one of first_frame, per_frame; got 'last'"),
        ({"temporal_merge": "sum"}, "temporal_merge must be one of residual, convex; got 'sum'"),
        ({"latent_activation": "relu"}, "latent_activation must be one of none, tanh; got 'relu'"),
        ({"attention_levels": (2,)}, r"attention_levels must index channel_mult \(1, 2\); got \[2\]"),
        ({"groups": 3}, r"groups 3 must divide the channels of every level; got \[8, 16\]"),
        ({"patch_size": 0}, "patch_size must be at least 1; got 0"),
    ],
)
def test_unknown_choices_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MoVQ(dataclasses.replace(SMALL, **changes))


def test_wrong_shapes_are_refused() -> None:
    movq = random_movq()
    with pytest.raises(ValueError, match=r"pixels must be \(B, 3, T, H, W\); got \(3, 16, 16\)"):
        movq.encode(torch.zeros(3, 16, 16))
    with pytest.raises(ValueError, match="multiples of 4; got 16x18"):
        movq.encode(torch.zeros(1, 3, 1, 16, 18))
    with pytest.raises(ValueError, match=r"latents must be \(B, 4, T, h, w\); got \(1, 3, 1, 4, 4\)"):
        movq.decode(torch.zeros(1, 3, 1, 4, 4))
