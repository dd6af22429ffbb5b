"""Fused and torch's norms against float64: shapes, groups, types, odd sizes, factors, biases and SiLU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fusionframes_core.kernels.group_norms import GroupNormSpec, conditional_norm, plain_norm, spatial_norm
from fusionframes_core.kernels.kernel_choice import fused_kernels, takes_fused

# Largest difference over the largest value.
TOLERANCE = {torch.float32: 5e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


@dataclass(frozen=True)
class Shape:
    """x (frames, channels, height, width), its groups, and the factors of MoVQ's modulation."""

    frames: int
    channels: int
    height: int
    width: int
    groups: int
    down: int = 1
    across: int = 1


SHAPES = (
    Shape(2, 32, 8, 8, groups=8, down=2, across=2),
    Shape(4, 12, 5, 7, groups=3),
    Shape(2, 200, 6, 9, groups=25, down=3, across=3),  # more channels than one program takes
    Shape(6, 6, 1, 1, groups=1),
    Shape(2, 8, 70, 66, groups=2, down=7, across=3),  # more positions than one program takes
)


@pytest.fixture(params=["torch", "triton"])
def path(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def place(path: str, request: pytest.FixtureRequest) -> str:
    """The device of this path."""
    return "cpu" if path == "torch" else request.getfixturevalue("device")


def exact_norm(x: Tensor, spec: GroupNormSpec, input_bias: Tensor | None) -> Tensor:
    """Written out, in float64."""
    x = x.double() if input_bias is None else x.double() + input_bias.double()[:, None, None]
    grouped = x.unflatten(1, (spec.groups, -1))
    mean = grouped.mean((2, 3, 4), keepdim=True)
    variance = (grouped - mean).square().mean((2, 3, 4), keepdim=True)
    normed = ((grouped - mean) / (variance + spec.eps).sqrt()).flatten(1, 2)
    if spec.weight is None or spec.bias is None:
        return normed
    return normed * spec.weight.double()[:, None, None] + spec.bias.double()[:, None, None]


def check(run: Callable[[], Tensor], exact: Tensor, path: str, silu: bool) -> None:
    with fused_kernels(path == "triton"), torch.no_grad():
        out = run()
    assert out.shape == exact.shape
    exact = F.silu(exact) if silu else exact
    assert (out.double() - exact).abs().max() / exact.abs().max() < TOLERANCE[out.dtype]


def draw(shape: Shape, place: str, dtype: torch.dtype) -> Tensor:
    x = torch.randn(shape.frames, shape.channels, shape.height, shape.width) * 2 + 3
    return x.to(place, dtype).contiguous(memory_format=torch.channels_last)


def affine(shape: Shape, x: Tensor) -> GroupNormSpec:
    weight, bias = torch.randn(2, shape.channels).to(x)
    return GroupNormSpec(shape.groups, 1e-6, weight, bias)


def bias_of(shape: Shape, x: Tensor, wanted: bool) -> Tensor | None:
    return torch.randn(shape.channels).to(x) if wanted else None


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_conditional_norm(shape: Shape, silu: bool, biased: bool, path: str, place: str) -> None:
    x = draw(shape, place, torch.float32)
    bias = bias_of(shape, x, biased)
    spec = GroupNormSpec(shape.groups)
    for rows in (1, 2, shape.frames):
        scale, shift = torch.randn(rows, 2 * shape.channels).to(x).chunk(2, dim=1)
        wide = [part.double().repeat_interleave(shape.frames // rows, 0)[..., None, None] for part in (scale, shift)]
        exact = exact_norm(x, spec, bias) * (wide[0] + 1) + wide[1]
        check(lambda s=scale, t=shift: conditional_norm(x, spec, s, t, silu, bias), exact, path, silu)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_spatial_norm(shape: Shape, silu: bool, biased: bool, path: str, place: str) -> None:
    x = draw(shape, place, torch.float32)
    spec, bias = affine(shape, x), bias_of(shape, x, biased)
    for rows in (shape.frames, shape.frames // 2):  # each frame's own latents, or one frame's for all of a video
        size = (2, rows, shape.channels, shape.height // shape.down, shape.width // shape.across)
        scale, shift = torch.randn(size).to(x)
        wide = [
            part.double().repeat_interleave(shape.frames // rows, 0)
            .repeat_interleave(shape.down, 2).repeat_interleave(shape.across, 3)
            for part in (scale, shift)
        ]  # fmt: skip
        exact = exact_norm(x, spec, bias) * wide[0] + wide[1]
        check(lambda s=scale, t=shift: spatial_norm(x, spec, s, t, silu, bias), exact, path, silu)


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_plain_norm(shape: Shape, silu: bool, path: str, place: str) -> None:
    x = draw(shape, place, torch.float32)
    spec = affine(shape, x)
    check(lambda: plain_norm(x, spec, silu), exact_norm(x, spec, None), path, silu)
    bare = replace(spec, weight=None, bias=None)
    check(lambda: plain_norm(x, bare, silu), exact_norm(x, bare, None), path, silu)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_types(dtype: torch.dtype, path: str, place: str) -> None:
    shape = SHAPES[0]
    x = draw(shape, place, dtype)
    spec, bias = affine(shape, x), bias_of(shape, x, True)
    scale, shift = torch.randn(2, shape.frames, shape.channels, 4, 4).to(x)
    wide = [part.double().repeat_interleave(2, 2).repeat_interleave(2, 3) for part in (scale, shift)]
    exact = exact_norm(x, spec, bias) * wide[0] + wide[1]
    check(lambda: spatial_norm(x, spec, scale, shift, input_bias=bias), exact, path, silu=False)


def test_contiguous_input_gives_the_same_and_a_channels_last_result(device: str) -> None:
    x = draw(SHAPES[2], device, torch.float32)
    spec = affine(SHAPES[2], x)
    with fused_kernels(True):
        from_last, from_first = plain_norm(x, spec), plain_norm(x.contiguous(), spec)
    assert torch.equal(from_last, from_first)
    assert from_first.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("mean", [1e2, 1e4])
def test_large_means_do_not_cancel(mean: float, device: str) -> None:
    x = draw(SHAPES[4], device, torch.float32) + mean
    spec = GroupNormSpec(SHAPES[4].groups)
    exact = exact_norm(x, spec, None)
    with fused_kernels(True):
        apart = (plain_norm(x, spec).double() - exact).abs().max().item()
    assert apart < 4 * mean * torch.finfo(torch.float32).eps + 1e-6, "as many digits as x has"


def test_the_same_result_in_every_run(device: str) -> None:
    x = draw(SHAPES[4], device, torch.float32)
    spec = affine(SHAPES[4], x)
    with fused_kernels(True):
        assert torch.equal(plain_norm(x, spec, True), plain_norm(x, spec, True))


def test_scale_and_shift_that_lie_differently(device: str) -> None:
    x = draw(SHAPES[0], device, torch.float32)
    scale, shift = torch.randn(2, 2, 32, 4, 4).to(x)
    spec = affine(SHAPES[0], x)
    with fused_kernels(True):
        alike = spatial_norm(x, spec, scale, shift)
        assert torch.equal(alike, spatial_norm(x, spec, scale, shift.contiguous(memory_format=torch.channels_last)))


def test_sizes_that_do_not_divide() -> None:
    x, part = torch.zeros(2, 4, 6, 6), torch.zeros(2, 4, 4, 3)
    with pytest.raises(ValueError, match=r"scale \(2, 4, 4, 3\) must divide x \(2, 4, 6, 6\)"):
        spatial_norm(x, GroupNormSpec(2), part, part)


def test_gradients_float64_and_the_cpu_take_torchs_path() -> None:
    x = torch.zeros(2, 4, 3, 3)
    assert not takes_fused(x)
    with fused_kernels(True):
        assert takes_fused(x)
        assert not takes_fused(x.double())
        assert not takes_fused(x, x.clone().requires_grad_())
        with torch.no_grad():
            assert takes_fused(x, x.clone().requires_grad_())


def test_torch_path_keeps_gradients_and_compiles() -> None:
    scale, shift = (torch.randn(1, 4, requires_grad=True) for _ in range(2))
    x = torch.randn(2, 4, 3, 3)
    with fused_kernels(True):
        conditional_norm(x, GroupNormSpec(2), scale, shift, silu=True).sum().backward()
        compiled = torch.compile(conditional_norm, backend="eager", fullgraph=True)
        with torch.no_grad():
            out = compiled(x, GroupNormSpec(2), scale, shift)
    assert scale.grad is not None
    assert scale.grad.any()
    exact = exact_norm(x, GroupNormSpec(2), None) * (scale[..., None, None] + 1) + shift[..., None, None]
    torch.testing.assert_close(out.double(), exact, rtol=0, atol=1e-5, check_dtype=False)
