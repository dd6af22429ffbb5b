"""The denoising loop and its samplers.

One loop serves still images, keyframes and interpolation. A sampler is a function of one step,
`sampler(step, noise) -> next x`; noise comes from a source that is passed in, never from the global state.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .callbacks import Callback, run_callback
from .noise import NoiseSource
from .schedule import NoiseSchedule, to_x0
from .thresholding import threshold_x0


@dataclass(frozen=True)
class Step:
    """One sampler step from (α, σ) to (α_next, σ_next): the noisy x and the predicted clean x0, (B, C, T, h, w)."""

    x: Tensor
    x0: Tensor
    alpha: float
    sigma: float
    alpha_next: float
    sigma_next: float
    previous: Step | None


Sampler = Callable[[Step, NoiseSource], Tensor]


def ddpm(step: Step, noise: NoiseSource) -> Tensor:
    """Ancestral sampling from the posterior q(x_s | x_t, x0) (Ho et al., arXiv 2006.11239, eq. 7)."""
    ratio = (step.alpha / step.alpha_next) ** 2  # α_{t|s}², the signal kept between the two times
    beta = 1.0 - ratio
    variance, variance_next = step.sigma**2, step.sigma_next**2
    mean = (step.alpha_next * beta / variance) * step.x0 + (math.sqrt(ratio) * variance_next / variance) * step.x
    if variance_next == 0.0:
        return mean
    return mean + math.sqrt(beta * variance_next / variance) * noise(tuple(step.x.shape))


def ddim(step: Step, noise: NoiseSource) -> Tensor:
    """Deterministic DDIM, η = 0 (Song et al., arXiv 2010.02502, eq. 12), with ε that agrees with the clipped x0."""
    epsilon = (step.x - step.alpha * step.x0) / step.sigma
    return step.alpha_next * step.x0 + step.sigma_next * epsilon


def dpmpp_2m(step: Step, noise: NoiseSource) -> Tensor:
    """DPM-Solver++(2M) (Lu et al., arXiv 2211.01095, algorithm 2), λ = log(α / σ); first order at both ends.

    From zero terminal SNR (λ = −∞) and to the clean end (λ = ∞) the limits are the first-order step.
    """
    log_snr = _log_snr(step.alpha, step.sigma)
    h = _log_snr(step.alpha_next, step.sigma_next) - log_snr
    x0 = step.x0
    if step.previous is not None and math.isfinite(h):
        h_previous = log_snr - _log_snr(step.previous.alpha, step.previous.sigma)
        ratio = h / (2 * h_previous)  # 1 / (2r); 0 after a step from λ = −∞
        x0 = (1 + ratio) * x0 - ratio * step.previous.x0
    return (step.sigma_next / step.sigma) * step.x - step.alpha_next * math.expm1(-h) * x0


def _log_snr(alpha: float, sigma: float) -> float:
    if alpha == 0.0:
        return -math.inf
    return math.inf if sigma == 0.0 else math.log(alpha / sigma)


SAMPLERS: dict[str, Sampler] = {"ddpm": ddpm, "ddim": ddim, "dpmpp_2m": dpmpp_2m}
MULTISTEP = frozenset({"dpmpp_2m"})
"""Those that read the step before, its x0 and levels."""


@torch.no_grad()
def denoise(
    predict: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    schedule: NoiseSchedule,
    sampler: Sampler,
    prediction: str,
    noise: NoiseSource,
    limit: Callable[[Tensor], Tensor] = threshold_x0,
    callback: Callback | None = None,
) -> Tensor:
    """Turn noise x (B, C, T, h, w), float32, into a clean latent along `schedule.times`.

    `predict(x, t)` gives the guided output of a network of kind `prediction` at network times t (B,); `limit` keeps the
    predicted clean latent in range, see `thresholding.threshold_x0`. `callback(step, total, x0)` follows every step,
    with the current clean prediction; what it raises ends the loop, see `callbacks.run_callback`.
    """
    total = len(schedule.times)
    previous: Step | None = None
    for index, time in enumerate(schedule.times):
        t = torch.full((x.shape[0],), schedule.network_time(time), device=x.device)
        alpha, sigma = schedule.level(time)
        alpha_next, sigma_next = schedule.level(schedule.times[index + 1]) if index + 1 < total else (1.0, 0.0)
        output = predict(x, t)
        scale = [torch.tensor(value, dtype=x.dtype) for value in (alpha, sigma)]
        x0 = limit(to_x0(prediction, output, x, *scale))
        step = Step(x, x0, alpha, sigma, alpha_next, sigma_next, previous)
        x = sampler(step, noise)
        previous = dataclasses.replace(step, previous=None)
        run_callback(callback, index + 1, total, x0)
    return x
