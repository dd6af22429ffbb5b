"""Inflating an image autoencoder to a video one, and training only its temporal parts (paper section 4.3)."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from fusionframes_core.models.movq.movq import MoVQ, inflate_movq
from fusionframes_core.models.movq.movq_temporal import DECODERS
from fusionframes_core.models.temporal import initialise_temporal, temporal_parameters
from tests.helpers.movq_cases import SMALL, random_latents, random_movq

VIDEO_DECODERS = [name for name in DECODERS if name != "image"]
CHOICES = [("convex", "first_frame"), ("residual", "per_frame"), ("residual", "first_frame")]


@pytest.mark.parametrize(("merge", "norm"), CHOICES)
@pytest.mark.parametrize("decoder", VIDEO_DECODERS)
@torch.no_grad()
def test_inflated_decoder_is_the_image_decoder(decoder: str, merge: str, norm: str) -> None:
    config = dataclasses.replace(SMALL, temporal_merge=merge, attention_norm=norm)
    image = MoVQ(config)
    video = inflate_movq(image, dataclasses.replace(config, decoder=decoder))
    latents, pixels = random_latents(), torch.randn(1, 3, 2, 16, 16)
    torch.testing.assert_close(video.decode(latents), image.decode(latents))
    torch.testing.assert_close(video.decode(latents, temporal=False), image.decode(latents, temporal=False))
    torch.testing.assert_close(video.encode(pixels), image.encode(pixels))


@pytest.mark.parametrize("decoder", VIDEO_DECODERS)
@torch.no_grad()
def test_initialisation_makes_trained_parts_an_identity(decoder: str) -> None:
    movq = random_movq(decoder=decoder)
    latents = random_latents()
    before = movq.decode(latents, temporal=False)
    assert not torch.allclose(movq.decode(latents), before, atol=1e-4)
    initialise_temporal(movq)
    torch.testing.assert_close(movq.decode(latents), before)


@torch.no_grad()
def test_initialisation_needs_no_earlier_values() -> None:
    movq = random_movq(decoder="resnet_attn")
    for _, parameter in temporal_parameters(movq):
        parameter.fill_(float("nan"))
    initialise_temporal(movq)
    latents = random_latents()
    torch.testing.assert_close(movq.decode(latents), movq.decode(latents, temporal=False))


def test_initialisation_follows_its_generator() -> None:
    movq = random_movq(decoder="conv1_attn")
    drawn = []
    for seed in (1, 1, 2):
        initialise_temporal(movq, torch.Generator().manual_seed(seed))
        drawn.append(torch.cat([parameter.detach().flatten() for _, parameter in temporal_parameters(movq)]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("merge", ["convex", "residual"])
@pytest.mark.parametrize("decoder", VIDEO_DECODERS)
def test_identity_can_be_trained(decoder: str, merge: str) -> None:
    """Two small steps on the temporal parts alone lower the loss: no layer starts with all gradients zero."""
    video = inflate_movq(random_movq(), dataclasses.replace(SMALL, decoder=decoder, temporal_merge=merge))
    video.requires_grad_(False)
    parameters = dict(temporal_parameters(video))
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    latents = random_latents(batch=1)
    target = video.decode(latents).detach().roll(1, dims=2)
    optimiser = torch.optim.SGD(parameters.values(), lr=1e-3)
    losses = []
    for _ in range(3):
        loss = (video.decode(latents) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[2] < losses[1] < losses[0]
    layers = {name.rsplit(".", 2)[0] for name in parameters}
    moved = {name.rsplit(".", 2)[0] for name, p in parameters.items() if p.grad is not None and p.grad.abs().max() > 0}
    assert moved == layers


@pytest.mark.parametrize("decoder", DECODERS)
def test_temporal_parameters_are_what_the_image_decoder_lacks(decoder: str) -> None:
    image, video = random_movq().state_dict(), random_movq(decoder=decoder)
    names = {name for name, _ in temporal_parameters(video)}
    state = video.state_dict()
    added = {name for name in state if name not in image or image[name].shape != state[name].shape}
    assert added <= names
    # of inflated convolutions the biases, which both have, train with their kernels
    assert all(name.endswith((".conv1.bias", ".conv2.bias")) for name in names - added)
    assert bool(names) == (decoder != "image")


def test_inflation_refuses_another_size() -> None:
    with pytest.raises(ValueError, match=r"does not fit the config: .*encoder.conv_in.weight"):
        inflate_movq(random_movq(), dataclasses.replace(SMALL, channels=16, decoder="conv1"))
    with pytest.raises(ValueError, match=r"'unexpected': \['encoder.down.1.attn.0"):
        inflate_movq(random_movq(), dataclasses.replace(SMALL, attention_levels=(), decoder="conv1"))
