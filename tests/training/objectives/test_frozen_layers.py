"""Frozen layers: the results and gradients of plain ones, nothing kept for the backward pass, weights in fewer bits."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from fusionframes_core.checkpoints.open_model import open_model
from fusionframes_core.kernels.kernel_choice import fused_kernels
from fusionframes_core.models.layers import TorchOperations, without_bias
from fusionframes_core.models.unet.unet import UNet
from tests.helpers.unet_cases import condition, randomise, video_config
from training.accounting.live_memory import LiveMemory
from training.objectives.adapters import AdapterSettings, LoraModel, layers_named
from training.objectives.base_weights import BASES, BlockwiseWeight, check_base, counted_base, load_base
from training.objectives.frozen_layers import FrozenOperations, pack_layers

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)
MAKES = {
    "linear": (lambda ops: ops.Linear(6, 4), (2, 5, 6)),
    "conv2d": (lambda ops: ops.Conv2d(6, 4, 3, padding=1), (2, 6, 5, 7)),
    "halving": (lambda ops: ops.Conv2d(6, 6, 2, stride=2), (2, 6, 4, 6)),
    "doubling": (lambda ops: ops.ConvTranspose2d(6, 6, 2, stride=2), (2, 6, 4, 6)),
    "over time": (lambda ops: ops.Conv3d(6, 4, (3, 1, 1), padding=(1, 0, 0)), (1, 6, 5, 4, 3)),
    "pointwise": (lambda ops: ops.Conv2d(6, 4, 1), (2, 6, 5, 7)),
}


@pytest.fixture(autouse=True)
def _eager() -> Iterator[None]:
    """On a CPU bitsandbytes asks torch to compile its functions, which takes longer than these tests."""
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.mark.parametrize("name", MAKES)
def test_a_frozen_layer_is_the_plain_one(name: str) -> None:
    """Output and the input's gradient; of the input and the weight nothing is kept."""
    make, shape = MAKES[name]
    plain, frozen = make(TorchOperations), make(FrozenOperations)
    frozen.load_state_dict(plain.state_dict())
    results = []
    for layer in (plain, frozen):
        layer.requires_grad_(False)
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
        kept: list[Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t) or t, lambda t: t):
            out = layer(x)
        out.square().sum().backward()
        results.append((out.detach(), x.grad, len(kept)))
    torch.testing.assert_close(results[1][0], results[0][0])
    torch.testing.assert_close(results[1][1], results[0][1])
    assert results[1][2] == 0


class Doubled(nn.Module):
    """A weight as its half."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.half = weight / 2

    def dense(self) -> Tensor:
        """The weight."""
        return self.half * 2


@pytest.mark.parametrize("name", ["conv2d", "halving", "over time", "pointwise"])
@torch.no_grad()
def test_a_packed_layer_lends_its_weight_to_the_fused_path(name: str) -> None:
    """And not the empty one that says its shape."""
    make, shape = MAKES[name]
    layer, x = make(FrozenOperations).requires_grad_(False), torch.randn(shape)
    wanted = layer(x)
    layer.pack(Doubled)
    assert layer.weight.is_meta
    with fused_kernels(True):
        out, bias = without_bias(layer, x)
    out = out if bias is None else out + bias.view(-1, *[1] * (out.ndim - 2))
    torch.testing.assert_close(out, wanted, rtol=1e-5, atol=1e-5)


@needs_bitsandbytes
@pytest.mark.parametrize(("bits", "error"), [(8, 0.02), (4, 0.12)])
def test_fewer_bits_are_near(bits: int, error: float) -> None:
    """Within bounds that rounding of normal numbers keeps; the memory is what the accounting says."""
    weight = torch.randn(64, 32, 3, 3, dtype=torch.bfloat16)
    packed = BlockwiseWeight(weight, bits)
    dense = packed.dense()
    assert dense.shape == weight.shape
    assert dense.dtype == weight.dtype
    assert 0 < (dense - weight).float().norm() / weight.float().norm() < error
    counted = BlockwiseWeight(weight.to("meta"), bits)
    assert counted.codes.nbytes == packed.codes.nbytes + packed.state.absmax.nbytes
    assert counted.dense().shape == weight.shape


@needs_bitsandbytes
@pytest.mark.parametrize("bits", [8, 4])
def test_a_packed_unet_keeps_its_names_but_not_its_weights(bits: int) -> None:
    """Weights are no parameters any more; the outer layers stay whole; results are near."""
    config = video_config("conv1d_attn1d_blocks")
    plain = randomise(UNet(config))
    packed = UNet(config, operations=FrozenOperations)
    packed.load_state_dict(plain.state_dict())
    pack_layers(packed, lambda weight: BlockwiseWeight(weight, bits))
    names = {name for name, _ in packed.named_parameters()}
    assert "in_layer.weight" in names
    assert not any(name.endswith("to_query.weight") and "down_samples" in name for name in names)
    call = (torch.randn(1, 4, 3, 8, 6), torch.tensor([5]), condition(1, 3))
    with torch.no_grad():
        wanted, found = plain(*call), packed(*call)
    assert (found - wanted).norm() < 0.5 * wanted.norm()
    assert packed.down_samples[0].stages[0].in_resnet.resnet_blocks[0].projection.weight.is_meta


def test_a_frozen_base_keeps_less_of_a_step() -> None:
    """Its convolutions and linear layers keep no input: the peak of a step with adapters is lower."""
    peaks = {}
    for name, operations in (("plain", TorchOperations), ("frozen", FrozenOperations)):
        with torch.device("meta"):
            unet = UNet(video_config("conv1d_attn1d_blocks"), operations=operations)
            model = LoraModel(unet, AdapterSettings(2), layers_named(unet, "temporal"))
            x, told = torch.empty(1, 4, 3, 8, 6), condition(1, 3)
            told.context, told.mask, told.positions = (
                value.to("meta") for value in (told.context, told.mask, told.positions)
            )
            with LiveMemory([*model.parameters()]) as memory:
                model(x, torch.ones(1, dtype=torch.long), told).sum().backward()
        peaks[name] = memory.peak
    assert peaks["frozen"] < 0.95 * peaks["plain"]


def test_bases_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown one, and one whose package is not there, are a sentence each."""
    assert check_base("bf16").dtype == torch.bfloat16
    with pytest.raises(ValueError, match="base must be one of fp32, bf16, 8bit, 4bit; got '2bit'"):
        check_base("2bit")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="base 4bit needs the package bitsandbytes, which is not installed"):
        check_base("4bit")


def test_the_bundled_model_as_a_base() -> None:
    """In bf16: half the memory, layers that keep nothing, the prediction but for rounding."""
    component = open_model("tiny").components["keyframe"]
    plain, half = (load_base(component, BASES[name], torch.device("cpu")) for name in ("fp32", "bf16"))
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    assert isinstance(half.in_layer, FrozenOperations.Conv2d)
    assert isinstance(plain.in_layer, nn.Conv2d)
    assert not isinstance(plain.in_layer, FrozenOperations.Conv2d)
    counted = counted_base(component.config, BASES["bf16"])
    assert [p.shape for p in counted.parameters()] == [p.shape for p in half.parameters()]


def losses_of(base: str) -> list[float]:
    """Losses of 20 steps of adapters over a small U-Net kept as `base`, on two fixed clips."""
    torch.manual_seed(0)
    config = video_config("conv1d_attn1d_blocks")
    plain = randomise(UNet(config)).to(torch.bfloat16)
    unet = UNet(config, operations=FrozenOperations, dtype=torch.bfloat16)
    unet.load_state_dict(plain.state_dict())
    if BASES[base].bits:
        pack_layers(unet, lambda weight: BlockwiseWeight(weight, BASES[base].bits))
    torch.manual_seed(1)
    model = LoraModel(unet, AdapterSettings(4), layers_named(unet, "all"))
    x, target, told = torch.randn(2, 4, 3, 8, 6), torch.randn(2, 4, 3, 8, 6), condition(2, 3)
    optimizer = torch.optim.AdamW(model.adapters.parameters(), 1e-2)
    losses = []
    for _ in range(20):
        loss = (model(x, torch.tensor([5, 700]), told) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@needs_bitsandbytes
@pytest.mark.slow
def test_the_loss_falls_over_each_base_alike() -> None:
    """20 steps at reduced width: 8 and 4 bits learn as 16 do, within a tenth and a quarter of what is learned."""
    found = {base: losses_of(base) for base in ("bf16", "8bit", "4bit")}
    for base, losses in found.items():
        print(f"{base}: {losses[0]:.4f} -> {losses[-1]:.4f}")
    learned = {base: losses[0] - losses[-1] for base, losses in found.items()}
    assert learned["bf16"] > 0.1 * found["bf16"][0]
    assert learned["8bit"] == pytest.approx(learned["bf16"], rel=0.1)
    assert learned["4bit"] == pytest.approx(learned["bf16"], rel=0.25)
