"""LPIPS (Zhang et al. 2018): distance of a network's features, with torchmetrics' trained weights on each layer.

The network itself is the user's file: torchvision's AlexNet or VGG-16 state dict (.pth or .safetensors).
"""

from __future__ import annotations

from pathlib import Path

import torch
import torchmetrics
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..data.items import DataError

# Layers in torchvision's order: (output channels, kernel, stride, padding) of a convolution, "relu", pooling; and the
# positions after which LPIPS looks.
_POOL3 = "pool3"
_ALEX = ((64, 11, 4, 2), "relu", _POOL3, (192, 5, 1, 2), "relu", _POOL3, (384, 3, 1, 1), "relu")
_VGG = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
_VGG_LAYERS = tuple(
    layer
    for channels, count in _VGG
    for layer in (*(part for _ in range(count) for part in ((channels, 3, 1, 1), "relu")), "pool2")
)
NETWORKS: dict[str, tuple[tuple, tuple[int, ...]]] = {
    "alex": ((*_ALEX, (256, 3, 1, 1), "relu", (256, 3, 1, 1), "relu", _POOL3), (1, 4, 7, 9, 11)),
    "vgg": (_VGG_LAYERS, (3, 8, 15, 22, 29)),
}
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # ImageNet's mean and deviation for [−1, 1]


def _features(layers: tuple) -> nn.Sequential:
    made: list[nn.Module] = []
    channels = 3
    for layer in layers:
        if isinstance(layer, tuple):
            made.append(nn.Conv2d(channels, *layer))
            channels = layer[0]
        else:
            made.append({"relu": nn.ReLU(), "pool2": nn.MaxPool2d(2, 2), _POOL3: nn.MaxPool2d(3, 2)}[layer])
    return nn.Sequential(*made)


class LPIPS(nn.Module):
    """Call it with two batches of pictures (N, 3, H, W) in [−1, 1]; the distance (N,), 0 for equal ones."""

    shift: Tensor
    scale: Tensor

    def __init__(self, network: str = "alex") -> None:
        super().__init__()
        if network not in NETWORKS:
            raise ValueError(f"network must be one of {', '.join(NETWORKS)}; got {network!r}")
        layers, self.taps = NETWORKS[network]
        self.features = _features(layers)
        folder = Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models"
        heads = torch.load(folder / f"{network}.pth", map_location="cpu", weights_only=True)
        self.heads = nn.ParameterList([heads[f"lin{i}.model.1.weight"] for i in range(len(self.taps))])
        self.register_buffer("shift", torch.tensor(_SHIFT).view(3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).view(3, 1, 1), persistent=False)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Distances (N,) of pictures (N, 3, H, W) in [−1, 1]."""
        distance = torch.zeros(len(output), device=output.device)
        a, b = ((pictures - self.shift) / self.scale for pictures in (output, target))
        heads = dict(zip(self.taps, self.heads, strict=True))
        for index, layer in enumerate(self.features):
            a, b = layer(a), layer(b)
            if index in heads:
                difference = (_unit(a) - _unit(b)).square()
                distance = distance + nn.functional.conv2d(difference, heads[index]).mean(dim=(1, 2, 3))
        return distance


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True) + 1e-8).sqrt()


def load_lpips(path: Path, network: str = "alex") -> LPIPS:
    """LPIPS over the state dict in `path`, frozen. Raises DataError when it is not that network's."""
    if not path.is_file():
        raise DataError(f"no network weights at {path}")
    try:
        if path.suffix == ".safetensors":
            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
        model = LPIPS(network)
        model.features.load_state_dict(
            {name.removeprefix("features."): value for name, value in weights.items() if name.startswith("features.")}
        )
    except (SafetensorError, RuntimeError, AttributeError, EOFError, ValueError) as error:
        raise DataError(f"{path} must hold torchvision's weights of {network}: {error}") from error
    return model.eval().requires_grad_(False)


def video_lpips(model: LPIPS, output: Tensor, target: Tensor) -> Tensor:
    """Mean over the frames (B,) of videos (B, 3, T, H, W)."""
    pictures = [video.float().clamp(-1, 1).transpose(1, 2).flatten(0, 1) for video in (output, target)]
    return model(*pictures).reshape(len(output), -1).mean(dim=1)
