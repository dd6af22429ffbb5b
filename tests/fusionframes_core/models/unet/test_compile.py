"""torch.compile sees each U-Net as one graph: nothing in it makes the compiler give up half way."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fusionframes_core.checkpoints.component import build
from fusionframes_core.models.unet.interpolation_unet import InterpolationCondition
from fusionframes_core.models.unet.unet import KeyframeCondition
from fusionframes_core.presets import TINY

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("part", ["keyframe", "interpolation"])
def test_one_graph(part: str) -> None:
    """Traced without a break, and the same numbers."""
    torch.manual_seed(0)
    unet = build(getattr(TINY, part)).eval().requires_grad_(False)
    text = torch.randn(1, 8, TINY.text.context_dim), torch.ones(1, 8, dtype=torch.bool)
    x, t = torch.randn(1, unet.in_layer.weight.shape[1] if part == "keyframe" else 12, 2, 8, 8), torch.tensor([500])
    seen: Any = KeyframeCondition(*text, torch.arange(2.0)[None])
    if part == "interpolation":
        level, sees = torch.zeros(1), torch.ones(1, dtype=torch.bool)
        seen = InterpolationCondition(torch.randn(1, 4, 3, 8, 8), *text, torch.tensor([3]), level, sees)
    torch._dynamo.reset()
    with torch.inference_mode():
        traced = torch.compile(unet, backend="eager", fullgraph=True)(x, t, seen)
        assert torch.allclose(traced, unet(x, t, seen), atol=1e-5)
