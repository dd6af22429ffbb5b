"""Steps that some samplers of ComfyUI cannot take on our schedules, taken by Euler's rule instead.

Zero terminal SNR has an infinite first sigma, for which ComfyUI has 4519. A sampler that evaluates the network twice in
a step multiplies the difference of its two guesses by the length of the step: there by thousands, and the picture is
noise. From so far Euler's step is as good as any, since x holds nothing but noise. And a few samplers need two sigmas
above zero, or stop before zero.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.samplers
import torch
from torch import Tensor

from .comfy_samplers import CoreSampler
from .sigmas import ZERO_SNR_SIGMA

UNSTEADY = frozenset(
    {"sample_heun", "sample_dpm_2", "sample_dpm_2_ancestral", "dpm_fast_function", "dpm_adaptive_function"}
)
"""ComfyUI's functions that fail from an infinite sigma; its others do not, and those of other packs are not known."""
SEVERAL_STEPS = frozenset({"sample_unipc", "sample_unipc_bh2", "dpm_fast_function", "dpm_adaptive_function"})
"""Those that fail when there is one step only."""
STOP_EARLY = frozenset({"dpm_fast_function", "dpm_adaptive_function"})
"""Those that stop at the last sigma above zero: DPM-Solver counts in logarithms of sigma."""


@dataclass(frozen=True)
class SteadySampler:
    """A sampler's function with Euler's steps where it needs them."""

    function: Callable[..., Tensor]

    @torch.no_grad()
    def __call__(
        self,
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: dict[str, Any] | None = None,
        callback: Any = None,
        disable: bool | None = None,
        **options: Any,
    ) -> Tensor:
        walk = _EulerWalk(model, sigmas, extra_args or {}, callback)
        first, last = 0, len(sigmas) - 1
        while first < last and self.needs_euler(sigmas[first:]):
            x = walk.step(x, first)
            first += 1
        stop = last - 1 if first < last and self._name in STOP_EARLY and float(sigmas[last]) == 0 else last
        if first < stop:
            own = sigmas[first : stop + 1]
            report = None if callback is None else lambda info: callback({**info, "i": info["i"] + first})
            x = self.function(model, x, own, extra_args=extra_args, callback=report, disable=disable, **options)
        return walk.step(x, stop) if stop < last else x

    def needs_euler(self, sigmas: Tensor) -> bool:
        """Whether the next step along these sigmas is one that the function cannot take."""
        if len(sigmas) == 2 and self._name in SEVERAL_STEPS:
            return True
        stock = getattr(self.function, "__module__", "").startswith("comfy.")
        return float(sigmas[0]) >= ZERO_SNR_SIGMA and (self._name in UNSTEADY or not stock)

    @property
    def _name(self) -> str:
        return getattr(self.function, "__name__", "")


@dataclass(frozen=True)
class _EulerWalk:
    """Euler's steps along the sigmas of a sampling."""

    model: Any
    sigmas: Tensor
    extra_args: dict[str, Any]
    callback: Any

    def step(self, x: Tensor, index: int) -> Tensor:
        """x after the step from sigma `index` to the next."""
        sigma, after = self.sigmas[index], self.sigmas[index + 1]
        x0 = self.model(x, sigma * x.new_ones(x.shape[0]), **self.extra_args)
        if self.callback is not None:
            self.callback({"x": x, "i": index, "sigma": sigma, "sigma_hat": sigma, "denoised": x0})
        return x0 + (x - x0) * (after / sigma)


def steady(sampler: Any) -> Any:
    """A SAMPLER of ComfyUI that can take every step of our schedules; core's own, and other classes, as they are."""
    if not isinstance(sampler, comfy.samplers.KSAMPLER) or isinstance(sampler.sampler_function, CoreSampler):
        return sampler
    mended = copy.copy(sampler)
    mended.sampler_function = SteadySampler(sampler.sampler_function)
    return mended
