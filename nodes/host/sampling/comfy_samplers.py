"""Samplers by name: core's, in ComfyUI's variables, and ComfyUI's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import comfy.samplers
import torch
from torch import Tensor

from ....fusionframes_core.sampling.sampler import MULTISTEP, SAMPLERS, Step
from .sampling_options import DEFAULT, OLD_DEFAULT
from .seeded_noise import SeededNoise
from .sigmas import ZERO_SNR_SIGMA


def sampler_names() -> list[str]:
    """'default', every sampler of this ComfyUI (core's own replace those of the same name), and default's old name."""
    return [DEFAULT, *comfy.samplers.SAMPLER_NAMES, OLD_DEFAULT]


def scheduler_names() -> list[str]:
    """'default', every scheduler of this ComfyUI, and default's old name."""
    return [DEFAULT, *comfy.samplers.SCHEDULER_NAMES, OLD_DEFAULT]


def make_sampler(name: str, noise: SeededNoise) -> Any:
    """ComfyUI's SAMPLER of a name: core's samplers as they are in core, all others ComfyUI's."""
    if name in SAMPLERS:
        return comfy.samplers.KSAMPLER(CoreSampler(name, noise))
    return comfy.samplers.sampler_object(name)


@dataclass(frozen=True)
class CoreSampler:
    """A sampler of fusionframes_core.sampling.sampler in ComfyUI's variables (latents x / α, sigma = σ / α)."""

    name: str
    noise: SeededNoise

    @torch.no_grad()
    def __call__(
        self,
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: dict[str, Any] | None = None,
        callback: Any = None,
        disable: bool | None = None,
    ) -> Tensor:
        step_noise = _StepNoise(self.noise, x)
        previous: Step | None = None
        for index in range(len(sigmas) - 1):
            x0 = model(x, sigmas[index] * x.new_ones(x.shape[0]), **(extra_args or {}))
            alpha, sigma = _level(float(sigmas[index]))
            alpha_next, sigma_next = _level(float(sigmas[index + 1]))
            if callback is not None:
                callback({"x": x, "i": index, "sigma": sigmas[index], "sigma_hat": sigmas[index], "denoised": x0})
            x = x / math.hypot(1.0, float(sigmas[index]))
            step = Step(x, x0, alpha, sigma, alpha_next, sigma_next, previous)
            x = SAMPLERS[self.name](step, step_noise) / alpha_next
            # What nobody asks for is not held while the network works: no sampler asks for the x of another step.
            previous = replace(step, x=x0, previous=None) if self.name in MULTISTEP else None
            del step, x0
        return x


class _StepNoise:
    """The noise of later steps, for samplers that draw any: what core's source gives after the first draw."""

    def __init__(self, noise: SeededNoise, x: Tensor) -> None:
        self._start = partial(noise.draws, x)
        self._draw: Callable[[], Tensor] | None = None

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        if self._draw is None:
            self._draw = self._start()
            self._draw()
        return self._draw()


def _level(sigma: float) -> tuple[float, float]:
    """(α, σ) of a ComfyUI sigma."""
    if sigma >= ZERO_SNR_SIGMA:
        return 0.0, 1.0
    alpha = 1 / math.hypot(1.0, sigma)
    return alpha, sigma * alpha
