"""Fréchet distance and Inception Score from a network's outputs, through torchmetrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore

from ..data.items import DataError

FVD_FRAMES, FVD_VIDEOS = 16, 2048  # StyleGAN-V: fvd2048_16f
IS_FRAMES, IS_VIDEOS, IS_SPLITS = 16, 2048, 10  # section 5


class PrecomputedFeatures(nn.Module):
    """Takes the place of torchmetrics' network where the features are known already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        """The features (N, D) themselves."""
        return features


def load_script(path: Path, device: str) -> Callable[..., Tensor]:
    """A TorchScript network. It is a program: only load a file that you trust. Raises DataError."""
    if not path.is_file():
        raise DataError(f"no TorchScript file at {path}")
    try:
        return torch.jit.load(str(path), map_location=device).eval()
    except RuntimeError as error:
        raise DataError(f"{path} must be a TorchScript file; it cannot be loaded") from error


@torch.no_grad()
def i3d_features(network: Callable[..., Tensor], videos: Iterable[Tensor], device: str) -> Tensor:
    """Features (N, D) of videos (B, 3, T, H, W) in [−1, 1] as StyleGAN-V asks its I3D for them: 8-bit values in, scaled
    and resized to 224 × 224 inside, the layer before the classes out."""
    options = {"rescale": True, "resize": True, "return_features": True}
    features = []
    for batch in videos:
        levels = ((batch.clamp(-1, 1) + 1) * 127.5).round()
        features.append(network(levels.to(device), **options).flatten(1).cpu().double())  # MPS has no float64
    return torch.cat(features)


@torch.no_grad()
def class_logits(network: Callable[..., Tensor], videos: Iterable[Tensor], size: int, device: str) -> Tensor:
    """Logits (N, K) for videos (B, 3, T, H, W) in [−1, 1], resized to `size` × `size`."""
    logits = []
    for batch in videos:
        shape = (batch.shape[2], size, size)
        resized = nn.functional.interpolate(batch, shape, mode="trilinear", align_corners=False)
        logits.append(network(resized.to(device)).flatten(1).cpu().double())
    return torch.cat(logits)


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Fréchet distance of two sets of features (N, D), (M, D).

    |m₁ − m₂|² + tr(S₁ + S₂ − 2 (S₁S₂)^½), with the covariances of StyleGAN's code, which divide by N and not N − 1:
    torchmetrics divides by N − 1, so the features are drawn towards their mean by as much.
    """
    for name, features in (("real", real), ("fake", fake)):
        if len(features) < 2:
            raise DataError(f"{name} must be at least 2 videos; got {len(features)}")
    metric = FrechetInceptionDistance(feature=PrecomputedFeatures(real.shape[1])).set_dtype(torch.float64)
    for features, is_real in ((real, True), (fake, False)):
        mean, count = features.double().mean(dim=0), len(features)
        metric.update(mean + (features.double() - mean) * ((count - 1) / count) ** 0.5, real=is_real)
    return float(metric.compute())


def inception_score(logits: Tensor, splits: int = IS_SPLITS, seed: int = 0) -> tuple[float, float]:
    """exp(E KL(p(y|x) ‖ p(y))) of logits (N, K): mean and deviation over `splits` parts, shuffled by `seed`."""
    if len(logits) < splits:
        raise DataError(f"splits must be at most the number of videos, {len(logits)}; got {splits}")
    metric = InceptionScore(feature=PrecomputedFeatures(logits.shape[1]), splits=splits).set_dtype(torch.float64)
    metric.update(logits.double())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # torchmetrics shuffles by the global state
        mean, deviation = metric.compute()
    return float(mean), float(deviation) if splits > 1 else 0.0
