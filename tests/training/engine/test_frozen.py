"""What does not train costs no more than its numbers: no activations of its own, 16 bits, and a name to know it by."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks.official_stages import randomise
from benchmarks.our_stages import shrunk
from fusionframes_core.models.temporal import TemporalPart
from fusionframes_core.models.unet.keyframe_unet import freeze_spatial
from fusionframes_core.models.unet.unet import KeyframeCondition, UNet
from fusionframes_core.presets import PAPER
from tests.helpers.toy_trainer import Toy, settings, toy_spec, toy_trainer
from training.engine.frozen import fingerprint, spare_inputs, to_bf16

KEYFRAME = shrunk(PAPER).keyframe


def keyframe_unet() -> UNet:
    """Random, with temporal parts that matter, which alone train."""
    torch.manual_seed(0)
    model = UNet(KEYFRAME)
    randomise(model)
    freeze_spatial(model)
    return model


class Kept:
    """Bytes of activations that autograd keeps, whole storages, each once; and how many when a hook asked."""

    def __init__(self, model: nn.Module) -> None:
        self.weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        self.storages: dict[int, int] = {}
        self.before_training: int | None = None
        for module in model.modules():
            if isinstance(module, TemporalPart):
                module.register_forward_pre_hook(self.reached)

    def pack(self, tensor: Tensor) -> Tensor:
        """Count one."""
        if tensor.untyped_storage().data_ptr() not in self.weights:
            self.storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    def reached(self, module: nn.Module, inputs: tuple[object, ...]) -> None:
        """The first temporal part on the frames' own path runs now."""
        image = [value for value in inputs if isinstance(value, Tensor) and value.ndim >= 4]
        if image and self.before_training is None:
            self.before_training = self.size

    @property
    def size(self) -> int:
        """Bytes so far."""
        return sum(self.storages.values())


def gradients(model: UNet, autocast: bool = False) -> tuple[dict[str, Tensor], Kept]:
    """Of every parameter that trains, by one loss; and what was kept for them.

    By torch's own kernels: oneDNN's gradients in bf16 are wrong on some processors (training/engine/cpu_gradients.py).
    """
    draw = torch.Generator().manual_seed(1)
    x, context = torch.randn(1, 4, 3, 16, 16, generator=draw), torch.randn(1, 7, KEYFRAME.context_dim, generator=draw)
    condition = KeyframeCondition(context, torch.ones(1, 7, dtype=torch.bool), torch.arange(3).float()[None])
    kept = Kept(model)
    with (
        torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor),
        torch.backends.mkldnn.flags(enabled=not autocast),
    ):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = model(x, torch.tensor([500]), condition)
        output.float().square().mean().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, kept


def test_nothing_is_kept_before_the_first_layer_that_trains() -> None:
    """Of the frames' path: input convolution, norms and convolutions up to the first temporal block. Only what embeds
    the frames' positions, which trains, is kept by then: a few numbers for each frame."""
    model = keyframe_unet()
    found, kept = gradients(model)
    assert found.keys() == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert kept.before_training is not None
    one_activation = 3 * 16 * 16 * KEYFRAME.init_channels * 4
    assert kept.before_training < one_activation / 2
    assert kept.size > 50 * one_activation


@pytest.mark.parametrize("autocast", [False, True])
def test_frozen_convolutions_keep_no_input_and_change_no_bit(autocast: bool) -> None:
    plain, spared = keyframe_unet(), keyframe_unet()
    spare_inputs(spared)
    (wanted, all_kept), (found, kept) = gradients(plain, autocast), gradients(spared, autocast)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert kept.size < (0.6 if autocast else 0.85) * all_kept.size


def test_frozen_matrices_in_16_bits_are_what_autocast_makes_of_them() -> None:
    plain, halved = keyframe_unet(), keyframe_unet()
    to_bf16(halved)
    types = {parameter.dtype for parameter in halved.parameters() if parameter.requires_grad or parameter.ndim < 2}
    assert types == {torch.float32}
    assert any(parameter.dtype == torch.bfloat16 for parameter in halved.parameters())
    (wanted, _), (found, _) = gradients(plain, autocast=True), gradients(halved, autocast=True)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-2, atol=1e-4 * float(value.abs().max()))


def test_a_fingerprint_tells_numbers_and_names_apart() -> None:
    torch.manual_seed(0)
    model = Toy(8)
    first = fingerprint(model)
    with torch.no_grad():
        model.first.weight.add_(1)  # which trains
    assert fingerprint(model) == first
    with torch.no_grad():
        model.frozen.weight[0, 0] += 1e-6
    assert fingerprint(model) != first


def test_a_run_does_not_go_on_over_other_frozen_weights(tmp_path: Path) -> None:
    toy_trainer(settings(tmp_path, steps=4)).run()
    with pytest.raises(ValueError, match="it was trained over other frozen weights; name the files that it began with"):
        toy_trainer(settings(tmp_path, seed=1), spec=toy_spec()).run()
