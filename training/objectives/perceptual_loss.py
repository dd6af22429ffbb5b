"""Terms that the decoder stage can add to its error: LPIPS-style feature distance and an adversary."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from fusionframes_core.kernels.elementwise import add_bias
from fusionframes_core.models.layout import fold_frames
from fusionframes_core.models.movq.movq import Encoder, MoVQ
from fusionframes_core.models.movq.movq_blocks import FrameContext


def features(encoder: Encoder, pixels: Tensor) -> Iterator[Tensor]:
    """The encoder's activations after every level, for frames (N, 3, H, W)."""
    context = FrameContext(latents=pixels, num_frames=1, temporal=False)
    x = encoder.conv_in(F.pixel_unshuffle(pixels, encoder.patch_size))
    for level in encoder.down:
        x = add_bias(*level(x, context))
        yield x


def feature_distance(movq: MoVQ, output: Tensor, pixels: Tensor) -> Tensor:
    """LPIPS's formula (arXiv 1801.03924, eq. 1) on the frozen image encoder's levels, which need no download.

    Squared distance of channel-normalised features, averaged over places and levels; videos (B, 3, T, H, W).
    """
    pairs = zip(features(movq.encoder, fold_frames(output)), features(movq.encoder, fold_frames(pixels)), strict=True)
    distances = [(F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(dim=1).mean() for a, b in pairs]
    return torch.stack(distances).mean()


class Discriminator(nn.Module):
    """Judges patches of single frames: PatchGAN's strided convolutions (arXiv 1611.07004)."""

    def __init__(self, width: int = 32, levels: int = 3) -> None:
        super().__init__()
        widths = [3, *(width * 2**level for level in range(levels))]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, frames: Tensor) -> Tensor:
        """Frames (N, 3, H, W) to scores (N, 1, H / 8, W / 8), high for real ones."""
        return self.layers(frames)


def adversarial_losses(judge: nn.Module, output: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """(generator's, judge's) hinge losses of videos (B, 3, T, H, W), for one backward pass over their sum.

    The generator's gradient does not reach the judge, nor the judge's the generator.
    """
    made, real = fold_frames(output), fold_frames(pixels)
    fixed = {name: value.detach() for name, value in judge.named_parameters()}
    generator = -functional_call(judge, fixed, (made,)).mean()
    judged = F.relu(1 - judge(real)).mean() + F.relu(1 + judge(made.detach())).mean()
    return generator, judged
