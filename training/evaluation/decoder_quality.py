"""Does the temporal decoder beat the image decoder (paper, section 4.3)? PSNR, SSIM and flicker on unseen clips."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..moving_shapes.scene_pixels import render_pixels
from ..moving_shapes.scenes import Scene, sample_scene
from .interpolation_quality import BETWEEN, KEYFRAMES, PASSES
from .video_metrics import flicker, mse, print_table, psnr, ssim

METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"psnr": psnr, "ssim": ssim, "mse": mse, "flicker": flicker}
LOWER_IS_BETTER = {"flicker", "mse"}
NOISE = 0.05  # standard deviation on the latents of the "noised" case, as in the autoencoder's training

Decoders = dict[str, Callable[[Tensor], Tensor]]
"""Name → latents (B, 4, T, h, w) to pixels (B, 3, T, H, W)."""


def draw_clips(count: int, seed: int) -> list[Scene]:
    """`count` scenes of combinations that training never sees, any motion."""
    rng = np.random.default_rng((seed, 2))
    return [sample_scene(rng, held_out=True) for _ in range(count)]


def latent_cases(
    latents: Tensor, interpolate: Callable[[Tensor, int, int], Tensor] | None, seed: int
) -> dict[str, Tensor]:
    """Latents (B, 4, T, h, w) as the encoder gives them, with noise, and interpolated from every fourth frame."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    cases = {"true": latents, "noised": latents + NOISE * noise}
    if interpolate is not None:
        cases["interpolated"] = interpolate(latents[:, :, :: BETWEEN + 1], PASSES[1][1], seed)
    return cases


@torch.no_grad()
def evaluate_decoder(
    encode: Callable[[Tensor], Tensor],
    decoders: Decoders,
    interpolate: Callable[[Tensor, int, int], Tensor] | None = None,
    clips: int = 32,
    seed: int = 0,
    batch: int = 4,
    size: int = 64,
) -> dict[str, Any]:
    """Mean of every metric for each decoder and kind of latents over clips of 61 frames, 3 base frames apart.

    `decoders` has "temporal" and "image". Flicker is in 8-bit levels, see `video_metrics.flicker`.
    """
    scenes, times = draw_clips(clips, seed), np.arange((KEYFRAMES - 1) * (BETWEEN + 1) + 1) * PASSES[1][0] / 4
    values: dict[str, dict[str, dict[str, list[Tensor]]]] = {}
    for start in tqdm(range(0, clips, batch), desc="clips", mininterval=5):
        truth = render_pixels([(scene, times) for scene in scenes[start : start + batch]], size)
        for case, latents in latent_cases(encode(truth), interpolate, seed + start).items():
            for name, decode in decoders.items():
                video = decode(latents)
                for metric, function in METRICS.items():
                    figures = values.setdefault(case, {}).setdefault(name, {})
                    figures.setdefault(metric, []).append(function(video, truth).cpu())
    means = {
        case: {
            name: {metric: torch.cat(batches).mean().item() for metric, batches in figures.items()}
            for name, figures in decoded.items()
        }
        for case, decoded in values.items()
    }
    return {"clips": clips, "seed": seed, "noise": NOISE, "latents": means, "reached": reached(means)}


def reached(means: dict[str, dict[str, dict[str, float]]]) -> dict[str, bool]:
    """Where the temporal decoder is better than the image decoder."""
    claims = {}
    for case, decoded in means.items():
        for metric in METRICS:
            gain = decoded["temporal"][metric] - decoded["image"][metric]
            claims[f"{case} latents: {metric}"] = gain < 0 if metric in LOWER_IS_BETTER else gain > 0
    return claims


def print_decoder(report: dict[str, Any]) -> None:
    """Print the report as a table, and which claims it bears out."""
    rows = [
        (f"{case}, {name}", *(f"{figures[metric]:.4f}" for metric in METRICS))
        for case, decoded in report["latents"].items()
        for name, figures in decoded.items()
    ]
    columns = ("latents, decoder", "PSNR (dB)", "SSIM", "MSE", "flicker (levels)")
    print_table(f"{report['clips']} clips of 61 frames", columns, rows)
    for claim, holds in report["reached"].items():
        print(f"{'better' if holds else 'WORSE '}  {claim}")
