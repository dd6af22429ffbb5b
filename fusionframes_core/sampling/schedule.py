"""Noise schedules and the conversions between ε, v and x0 predictions.

A noisy latent is `x_t = α_t · x0 + σ_t · ε` with `α_t = sqrt(ᾱ_t)` and `σ_t = sqrt(1 − ᾱ_t)` (paper, section 3);
the interpolation model predicts `v = α ε − σ x0` (section 4.2). All schedule arithmetic is float64 on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..config import ScheduleConfig

PREDICTIONS = ("epsilon", "v", "x0")
SPACINGS = ("leading", "trailing")
_MAX_BETA = 0.999


def cosine_betas(num_steps: int) -> Tensor:
    """Nichol and Dhariwal's cosine schedule (arXiv 2102.09672, eq. 17), betas (num_steps,) in float64."""

    def alpha_bar(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    steps = [(i / num_steps, (i + 1) / num_steps) for i in range(num_steps)]
    betas = [min(1.0 - alpha_bar(end) / alpha_bar(start), _MAX_BETA) for start, end in steps]
    return torch.tensor(betas, dtype=torch.float64)


def linear_betas(num_steps: int) -> Tensor:
    """Ho et al.'s linear schedule (arXiv 2006.11239), scaled to `num_steps`; betas (num_steps,) in float64."""
    scale = 1000 / num_steps
    betas = torch.linspace(scale * 0.0001, scale * 0.02, num_steps, dtype=torch.float64)
    return betas.clamp(max=_MAX_BETA)


SCHEDULES: dict[str, Callable[[int], Tensor]] = {"cosine": cosine_betas, "linear": linear_betas}


def rescale_zero_terminal_snr(betas: Tensor) -> Tensor:
    """Shift and scale sqrt(ᾱ) so that the last step is pure noise (Lin et al., arXiv 2305.08891, algorithm 1)."""
    if len(betas) < 2:
        return torch.ones_like(betas)
    root = torch.cumprod(1.0 - betas, dim=0).sqrt()
    first, last = root[0].clone(), root[-1].clone()
    root = (root - last) * first / (first - last)
    alphas_cumprod = root**2
    previous = torch.cat([torch.ones_like(alphas_cumprod[:1]), alphas_cumprod[:-1]])
    return 1.0 - alphas_cumprod / previous


def sampling_times(num_train_steps: int, steps: int, spacing: str) -> tuple[int, ...]:
    """The `steps` descending times in [0, num_train_steps) at which the model is evaluated.

    "leading" starts below the last training step and ends at 0; "trailing" starts at the last training step.
    """
    if spacing == "leading":
        stride = num_train_steps // steps
        return tuple(i * stride for i in reversed(range(steps)))
    if spacing == "trailing":
        return tuple(round(num_train_steps - i * num_train_steps / steps) - 1 for i in range(steps))
    raise ValueError(f"spacing must be one of {', '.join(SPACINGS)}; got {spacing!r}")


class NoiseSchedule:
    """ᾱ over discrete times 0..num_steps − 1, and the times that a sampler visits.

    `times` are descending; `time_scale` turns a time into what the network is given (1.0 rebuilds its schedule with
    as many steps as it samples and shows the network t · (1000 // steps)).
    """

    def __init__(self, betas: Tensor, times: tuple[int, ...] | None = None, time_scale: int = 1) -> None:
        self.betas = betas.to(torch.float64)
        self.alphas_cumprod = torch.cumprod(1.0 - self.betas, dim=0)
        self.num_steps = len(betas)
        self.times = tuple(reversed(range(self.num_steps))) if times is None else times
        self.time_scale = time_scale
        self._alpha = self.alphas_cumprod.sqrt().to(torch.float32)
        self._sigma = (1.0 - self.alphas_cumprod).sqrt().to(torch.float32)

    @classmethod
    def from_config(cls, config: ScheduleConfig, steps: int | None = None) -> NoiseSchedule:
        """The schedule to sample `steps` steps with, or the training schedule over all times when `steps` is None.

        Raises ValueError for an unknown name, steps outside 1..train_steps, or a schedule whose first time carries
        no signal for an ε-prediction model.
        """
        if config.schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}; got {config.schedule!r}")
        if config.prediction not in PREDICTIONS:
            raise ValueError(f"prediction must be one of {', '.join(PREDICTIONS)}; got {config.prediction!r}")
        if steps is not None and not 1 <= steps <= config.train_steps:
            raise ValueError(f"steps must be between 1 and {config.train_steps}; got {steps}")
        respaced = config.respaced and steps is not None
        betas = SCHEDULES[config.schedule](steps if respaced and steps is not None else config.train_steps)
        if config.zero_terminal_snr:
            betas = rescale_zero_terminal_snr(betas)
        if steps is None or respaced:
            schedule = cls(betas, time_scale=config.train_steps // len(betas))
        else:
            schedule = cls(betas, sampling_times(config.train_steps, steps, config.spacing))
        if steps is not None and config.prediction == "epsilon" and schedule.alphas_cumprod[schedule.times[0]] == 0:
            raise ValueError(
                "an epsilon-prediction model cannot start at zero terminal SNR, where noise says nothing about x0; "
                "use spacing 'leading' or prediction 'v'"
            )
        return schedule

    def last(self, steps: int) -> NoiseSchedule:
        """The same schedule whose samplers visit only the last `steps` of its times."""
        return NoiseSchedule(self.betas, self.times[len(self.times) - steps :], self.time_scale)

    def level(self, time: int) -> tuple[float, float]:
        """(α, σ) at `time`, as floats computed in float64."""
        alpha_cumprod = float(self.alphas_cumprod[time])
        return math.sqrt(alpha_cumprod), math.sqrt(1.0 - alpha_cumprod)

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(α_t, σ_t) of times t (B,) long, each (B,) float32 on t's device."""
        index = t.to("cpu", torch.long)
        return self._alpha[index].to(t.device), self._sigma[index].to(t.device)

    def network_time(self, t: int) -> int:
        """The time that the network is given at schedule time `t`."""
        return t * self.time_scale


def _broadcast(value: Tensor, x: Tensor) -> Tensor:
    """(B,) or scalar → shaped to multiply x (B, ...)."""
    return value.to(x.device, x.dtype).reshape(-1, *([1] * (x.ndim - 1)))


def _require_nonzero(value: Tensor, name: str, kind: str, wanted: str) -> None:
    if bool((value == 0).any()):
        raise ValueError(f"{wanted} is undefined at {name} = 0 for a model that predicts {kind}; use prediction 'v'")


def add_noise(x0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Forward diffusion `x_t = α x0 + σ ε`; x0 and noise (B, ...), α and σ (B,) or scalars."""
    return _broadcast(alpha, x0) * x0 + _broadcast(sigma, x0) * noise


def prediction_target(kind: str, x0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What a model of `kind` ("epsilon", "v" or "x0") has to output for x0 and noise (B, ...)."""
    if kind == "epsilon":
        return noise
    if kind == "v":
        return _broadcast(alpha, x0) * noise - _broadcast(sigma, x0) * x0
    if kind == "x0":
        return x0
    raise ValueError(f"prediction must be one of {', '.join(PREDICTIONS)}; got {kind!r}")


def to_x0(kind: str, output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The clean latent that a model's output at x (B, ...) stands for. Raises ValueError for ε at α = 0."""
    if kind == "epsilon":
        _require_nonzero(alpha, "alpha", kind, "x0")
        return (x - _broadcast(sigma, x) * output) / _broadcast(alpha, x)
    if kind == "v":
        return _broadcast(alpha, x) * x - _broadcast(sigma, x) * output
    if kind == "x0":
        return output
    raise ValueError(f"prediction must be one of {', '.join(PREDICTIONS)}; got {kind!r}")


def to_epsilon(kind: str, output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The noise that a model's output at x (B, ...) stands for. Raises ValueError for x0 at σ = 0."""
    if kind == "epsilon":
        return output
    if kind == "v":
        return _broadcast(sigma, x) * x + _broadcast(alpha, x) * output
    if kind == "x0":
        _require_nonzero(sigma, "sigma", kind, "epsilon")
        return (x - _broadcast(alpha, x) * output) / _broadcast(sigma, x)
    raise ValueError(f"prediction must be one of {', '.join(PREDICTIONS)}; got {kind!r}")
