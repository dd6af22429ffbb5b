"""The weights that do not train: in 16 bits, without activations that only their gradients would need, and known again.

Autograd itself keeps nothing of the layers before the first one that trains, and no gradient or optimizer state of a
frozen weight. A frozen convolution behind it still keeps its input, which only the gradient of its kernel would need.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from .run_settings import TrainSettings


def prepare_frozen(model: nn.Module, settings: TrainSettings) -> str:
    """Change what the settings say about the frozen weights; their fingerprint."""
    if settings.frozen == "bf16":
        to_bf16(model)
    if not settings.compile:  # the compiler decides by itself what it keeps
        spare_inputs(model)
    return fingerprint(model)


def to_bf16(model: nn.Module) -> None:
    """Frozen kernels and matrices in 16 bits, as autocast would cast them in every step; norms and biases stay."""
    for parameter in model.parameters():
        if not parameter.requires_grad and parameter.ndim > 1 and parameter.dtype == torch.float32:
            parameter.data = parameter.data.to(torch.bfloat16)


def spare_inputs(model: nn.Module) -> None:
    """Let frozen convolutions keep their kernel alone for the backward pass, not their input; results are the same."""
    for module in model.modules():
        trains = any(parameter.requires_grad for parameter in module.parameters(recurse=False))
        spared = getattr(module, "spares_input", False)  # by itself
        if isinstance(module, nn.Conv2d) and module.padding_mode == "zeros" and not trains and not spared:
            module.forward = functools.partial(_spared, module, module.forward)  # type: ignore[method-assign]


def _spared(layer: nn.Conv2d, forward: Any, x: Tensor) -> Tensor:
    if not (torch.is_grad_enabled() and x.requires_grad):
        return forward(x)
    return _InputGradient.apply(x, layer.weight, layer, forward)


def convolution_input_gradient(layer: Any, gradient: Tensor, weight: Tensor, like: Tensor) -> Tensor:
    """The gradient of a convolution's input for that of its output; `like` has the input's shape and layout, and no
    number of it is read."""
    how = (layer.stride, layer.padding, layer.dilation, layer.transposed, layer.output_padding, layer.groups)
    return torch.ops.aten.convolution_backward(gradient, like, weight, None, *how, [True, False, False])[0]


class _InputGradient(torch.autograd.Function):
    """A convolution whose backward pass is that of its input alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, layer: nn.Conv2d, forward: Any) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.layer, ctx.like = layer, (x.shape, x.stride(), x.dtype)
        return forward(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (weight,), layer, (shape, stride, dtype) = ctx.saved_tensors, ctx.layer, ctx.like
        like = torch.empty_strided(shape, stride, dtype=gradient.dtype, device=gradient.device)
        found = convolution_input_gradient(layer, gradient, weight.to(gradient.dtype), like)
        return found.to(dtype), None, None, None


@torch.no_grad()
def fingerprint(model: nn.Module) -> str:
    """Of the frozen weights' names, types, shapes and numbers; a checkpoint has it in their place."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if not parameter.requires_grad:
            whole = torch.int16 if parameter.element_size() % 2 == 0 else torch.uint8
            number = parameter.detach().contiguous().reshape(-1).view(whole).sum(dtype=torch.int64).item()
            digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)} {number};".encode())
    return digest.hexdigest()
