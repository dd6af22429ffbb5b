"""The layers that every model is made of, and the namespace they are taken from.

A model takes an `operations` namespace and makes each layer as `operations.Linear(..., device=, dtype=)`, so that a
host can slot in layers that cast, offload or patch their weights. `TorchOperations` is the default: torch's own layers.
`LayerFactory` binds a namespace to a device and a type; both families of blocks make their layers with it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.group_norms import GroupNormSpec, plain_norm
from ..kernels.kernel_choice import takes_fused


class Alpha(nn.Module):
    """A learned merge weight α (paper, eq. 3): one number, a leaf layer so that a host can cast and patch it."""

    def __init__(self, device: Any = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, device=device, dtype=dtype))
        self.bias = None

    def forward(self, x: Tensor) -> Tensor:
        """α as a tensor of shape (1,), in the type and on the device of `x`."""
        return self.weight.to(device=x.device, dtype=x.dtype)


Lent: TypeAlias = AbstractContextManager[tuple[Tensor, Tensor | None]]

if TYPE_CHECKING:
    _LinearMixin: TypeAlias = nn.Linear
    _Conv2dMixin: TypeAlias = nn.Conv2d
    _Conv3dMixin: TypeAlias = nn.Conv3d
    _GroupNormMixin: TypeAlias = nn.GroupNorm
else:
    _LinearMixin = _Conv2dMixin = _Conv3dMixin = _GroupNormMixin = object


class FastLinear(_LinearMixin):
    """Mixin for Linear whose product may add itself to an activation (`pending_bias.add_product`).

    A host's layer says in `lent_weights` how its weights come to `x`, and when it takes them back.
    """

    def lent_weights(self, x: Tensor) -> Lent:
        """A context with weight and bias on the device and in the type of `x`; the bias may be kept longer."""
        return nullcontext((self.weight, self.bias))


class FastConv2d(_Conv2dMixin):
    """Mixin for Conv2d: where the fused kernels run, 1×1 kernels are products of channels-last tokens with their bias.

    Works under any Conv2d whose forward ends in torch's `_conv_forward`, so a host can mix it into its own layer; that
    layer says in `lent_weights` how its weights come to `x`, and when it takes them back.
    """

    def lent_weights(self, x: Tensor) -> Lent:
        """A context with kernel and bias on the device and in the type of `x`; the bias may be kept longer."""
        return nullcontext((self.weight, self.bias))

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if takes_fused(input, weight, bias) and input.ndim == 4 and is_pointwise(self):
            return pointwise(input, weight, bias)
        return super()._conv_forward(input, weight, bias)


class FastConv3d(_Conv3dMixin):
    """Mixin for Conv3d, likewise; on a CPU (k, 1, 1) kernels run as 2-D convolutions over (T, H·W)."""

    def lent_weights(self, x: Tensor) -> Lent:
        """A context with kernel and bias on the device and in the type of `x`; the bias may be kept longer."""
        return nullcontext((self.weight, self.bias))

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None, *args: Any, **kwargs: Any) -> Tensor:
        if input.ndim == 5 and is_pointwise(self) and (input.is_cpu or takes_fused(input, weight, bias)):
            return pointwise(input, weight, bias)
        plain = self.stride == (1, 1, 1) and self.dilation == (1, 1, 1) and self.padding_mode == "zeros"
        flat = self.kernel_size[1:] == (1, 1) and tuple(self.padding[1:]) == (0, 0) and self.groups == 1
        if not (input.is_cpu and input.ndim == 5 and plain and flat):
            return super()._conv_forward(input, weight, bias, *args, **kwargs)
        out = F.conv2d(input.flatten(3), weight.flatten(3), bias, padding=(int(self.padding[0]), 0))
        return out.unflatten(3, input.shape[3:])


def is_pointwise(layer: nn.Conv2d | nn.Conv3d) -> bool:
    """Whether a convolution is a matrix at each position."""
    ones = {*layer.kernel_size, *layer.stride} == {1}
    return ones and layer.groups == 1 and not any(int(side) for side in layer.padding)


def sees_every_tap(layer: nn.Conv2d) -> bool:
    """Whether all of a kernel meets the input at every position: it makes the same of a bias everywhere."""
    return layer.groups == 1 and not any(int(side) for side in layer.padding)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution of kernel 1 as a product: x (N, C, ...) to (N, C', ...), which lies channels-last."""
    tokens = x.movedim(1, -1)
    if not x.is_cpu and bias is not None:
        tokens = tokens.contiguous()  # else torch adds the bias in a pass of its own; no copy when channels-last
    return F.linear(tokens, weight.flatten(1), bias).movedim(-1, 1)


def without_bias(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """layer(x) but for its bias, and the bias (C,), which the pass behind takes along; None where the layer added it.

    On a GPU a convolution's bias is a pass of its own, but for 1×1 kernels, whose products take it along themselves.
    """
    if not isinstance(layer, FastConv2d | FastConv3d) or is_hooked(layer) or is_pointwise(layer):
        return layer(x), None
    if not takes_fused(x, layer.weight, layer.bias):
        return layer(x), None
    with layer.lent_weights(x) as (weight, bias):
        return layer._conv_forward(x, weight, None), bias


def is_hooked(layer: nn.Module) -> bool:
    """Whether a call of the layer does more than its class says.

    A LoRA that trains adds itself to what the layer returns, and one that a host hangs beside its weights has its own
    forward in the layer's place.
    """
    return bool(layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer))


def bias_behind(layer: nn.Module, bias: Tensor | None) -> Tensor | None:
    """What layer(x + bias) adds to layer(x): (C,) to (C',); None for None.

    `layer` is nothing, or a convolution that `sees_every_tap`.
    """
    if bias is None or isinstance(layer, nn.Identity):
        return bias
    assert isinstance(layer, FastConv2d)
    assert sees_every_tap(layer)
    with layer.lent_weights(bias) as (weight, _):
        return F.linear(bias.float(), weight.flatten(2).sum(-1, dtype=torch.float32)).to(bias.dtype)


class FusedGroupNorm(_GroupNormMixin):
    """Mixin for GroupNorm that takes a SiLU along; a host's layer says in `weights_for` how its weights come to `x`."""

    def weights_for(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Weight and bias (C,) on the device and in the type of `x`."""
        return self.weight, self.bias

    def spec(self, x: Tensor) -> GroupNormSpec:
        """This norm as a value, for what modulates it or takes it apart."""
        return GroupNormSpec(self.num_groups, self.eps, *self.weights_for(x))

    def forward(self, x: Tensor, silu: bool = False, input_bias: Tensor | None = None) -> Tensor:
        return plain_norm(x, self.spec(x), silu, input_bias)


class Linear(FastLinear, nn.Linear):
    """torch's Linear whose product may add itself to an activation."""


class Conv2d(FastConv2d, nn.Conv2d):
    """torch's Conv2d with the fast path of `FastConv2d`."""


class Conv3d(FastConv3d, nn.Conv3d):
    """torch's Conv3d with the fast paths of `FastConv3d`."""


class GroupNorm(FusedGroupNorm, nn.GroupNorm):
    """torch's GroupNorm with what `FusedGroupNorm` adds."""


class TorchOperations:
    """Layers from torch.nn, plus `Alpha`; a host's namespace has the same names and signatures."""

    Linear: type[nn.Linear] = Linear
    Conv2d = Conv2d
    Conv3d = Conv3d
    ConvTranspose2d = nn.ConvTranspose2d
    GroupNorm = GroupNorm
    LayerNorm = nn.LayerNorm
    Embedding = nn.Embedding
    Alpha = Alpha


@dataclass(frozen=True)
class LayerFactory:
    """Makes layers from one operations namespace, on one device and in one type."""

    operations: Any = TorchOperations
    device: torch.device | str | None = None
    dtype: torch.dtype | None = None

    @property
    def _where(self) -> dict[str, Any]:
        return {"device": self.device, "dtype": self.dtype}

    def linear(self, inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
        """A matrix, (..., inputs) to (..., outputs)."""
        return self.operations.Linear(inputs, outputs, bias=bias, **self._where)

    def conv2d(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int | None = None, bias: bool = True
    ) -> nn.Conv2d:
        """A 2-D convolution, padded with zeros by half the kernel unless `padding` is given."""
        padding = kernel // 2 if padding is None else padding
        return self.operations.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, bias=bias, **self._where)

    def conv3d(self, inputs: int, outputs: int, kernel: tuple[int, int, int]) -> nn.Conv3d:
        """A convolution over (T, H, W) that keeps the size, padded with zeros."""
        padding = tuple(size // 2 for size in kernel)
        return self.operations.Conv3d(inputs, outputs, kernel, padding=padding, **self._where)

    def halving(self, channels: int) -> nn.Conv2d:
        """A 2×2 convolution of stride 2: halves height and width."""
        return self.conv2d(channels, channels, 2, stride=2, padding=0)

    def doubling(self, channels: int) -> nn.ConvTranspose2d:
        """A 2×2 transposed convolution of stride 2: doubles height and width."""
        return self.operations.ConvTranspose2d(channels, channels, 2, stride=2, **self._where)

    def group_norm(self, groups: int, channels: int, eps: float = 1e-5) -> GroupNorm:
        """A group norm with a scale and a shift per channel."""
        return self.operations.GroupNorm(groups, channels, eps=eps, **self._where)

    def layer_norm(self, width: int) -> nn.LayerNorm:
        """A layer norm over the last axis."""
        return self.operations.LayerNorm(width, **self._where)

    def embedding(self, entries: int, width: int) -> nn.Embedding:
        """A table of vectors."""
        return self.operations.Embedding(entries, width, **self._where)

    def alpha(self) -> nn.Module:
        """A merge weight α."""
        return self.operations.Alpha(**self._where)
