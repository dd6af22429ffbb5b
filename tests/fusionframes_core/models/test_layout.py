"""Laws of how videos are laid out for the layers: every way in has a way back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fusionframes_core.models.layout import channels_last, from_tokens, from_windows, to_tokens, to_windows


def test_tokens_and_frames_are_inverse_and_free() -> None:
    x = torch.randn(3, 5, 4, 2).contiguous(memory_format=torch.channels_last)
    tokens = to_tokens(x)
    assert torch.equal(from_tokens(tokens, 4, 2), x)
    assert tokens.data_ptr() == x.data_ptr()
    assert from_tokens(tokens, 4, 2).data_ptr() == x.data_ptr()


def test_kernels_lie_channels_last_and_keep_their_values() -> None:
    network = nn.Sequential(nn.Conv3d(3, 4, (3, 1, 1)), nn.Conv2d(3, 4, 3), nn.Linear(2, 3))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert channels_last(network) is network
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert network[1].weight.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 6), (4, 3), (5, 7), (1, 1)])
@pytest.mark.parametrize("window", [1, 2])
def test_windows_round_trip_and_hold_only_their_square(height: int, width: int, window: int) -> None:
    video = torch.randn(2, 3, height, width, 5)
    tokens, mask = to_windows(video, window)
    assert torch.equal(from_windows(tokens, video, window), video.flatten(0, 1).permute(0, 3, 1, 2))
    columns = -(-width // window)
    for index in range(tokens.shape[0] // 2):
        top, left = window * (index // columns), window * (index % columns)
        square = video[0, :, top : top + window, left : left + window].reshape(-1, 5)
        real = tokens[index] if mask is None else tokens[index][mask[index, 0, 0]]
        assert torch.equal(real, square)
