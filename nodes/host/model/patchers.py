"""ModelPatchers as the running ComfyUI makes them; those of U-Nets also by the names that stock nodes look for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import comfy.model_management as management
import comfy.model_patcher
from torch import Tensor, nn

from ....fusionframes_core.models.unet.temporal_layers import TemporalAttentionLayer

STOCK_LAYERS = {"to_query": "to_q", "to_key": "to_k", "to_value": "to_v", "output_layer": "to_out.0"}
"""Layers of an attention → what they are called in Stable Diffusion, whose names stock nodes look for."""


def patcher_class(dynamic: bool = True) -> Any:
    """The class that takes part in dynamic VRAM where there is any, looked up now: it is chosen when ComfyUI starts."""
    return comfy.model_patcher.CoreModelPatcher if dynamic else comfy.model_patcher.ModelPatcher


def unet_patcher_class(dynamic: bool, device: Any) -> Any:
    """The same for a U-Net. On the CPU ComfyUI's dynamic class makes patchers of the plain one: there that is meant."""
    return _with_stock_names(patcher_class(dynamic and not management.is_device_cpu(device)))


@lru_cache(maxsize=4)
def _with_stock_names(kind: Any) -> Any:
    return type(f"Video{kind.__name__}", (StockNames, kind), {})


class StockNames:
    """A patcher whose attention weights have Stable Diffusion's names too, which nodes that scale attention look for.

    They are no other weights: a patch on such a name becomes one on the weight itself, and what moves, merges or saves
    weights does not see the names.
    """

    model: Any
    hides_stock_names = False

    def model_state_dict(self, filter_prefix: str | None = None) -> dict[str, Tensor]:
        """Every weight, and where all are asked for, the attentions' once more under the stock names."""
        found: dict[str, Tensor] = super().model_state_dict(filter_prefix)  # type: ignore[misc]
        if filter_prefix is not None or self.hides_stock_names:
            return found
        return found | {name: found[own] for name, own in self._stock_names().items()}

    def add_patches(self, patches: Mapping[Any, Any], strength_patch: float = 1.0, strength_model: float = 1.0) -> Any:
        """ComfyUI's, with each stock name replaced by the weight's own."""
        names = self._stock_names()
        own = {names.get(key, key): patch for key, patch in patches.items()}
        return super().add_patches(own, strength_patch, strength_model)  # type: ignore[misc]

    def get_key_patches(self, filter_prefix: str | None = None) -> dict[str, Any]:
        """ComfyUI's, for merging: each weight once."""
        self.hides_stock_names = True
        try:
            return super().get_key_patches(filter_prefix)  # type: ignore[misc]
        finally:
            self.hides_stock_names = False

    def _stock_names(self) -> dict[str, str]:
        return dict(stock_names(self.model.diffusion_model))


def stock_names(network: Any) -> Iterator[tuple[str, str]]:
    """(stock name, own name) of every attention weight of a U-Net.

    "unet.input.1.0.attn1.to_q.weight" within a frame or to the text; "unet.<own name>.time_stack.attn1.to_q.weight"
    over time, as Stable Video Diffusion has it.
    """
    paths: dict[nn.Module, str] = {module: path for path, module in network.named_modules()}
    places = [
        (layer, f"{place.block[0]}.{place.block[1]}.{place.index}.{place.attention}")
        for layer, place in network.places.items()
    ]
    over_time = [(path, part) for part, path in paths.items() if isinstance(part, TemporalAttentionLayer)]
    places += [(part.attention, f"{path}.time_stack.attn1") for path, part in over_time]
    for layer, place in places:
        for own, stock in STOCK_LAYERS.items():
            yield f"unet.{place}.{stock}.weight", f"diffusion_model.{paths[layer]}.{own}.weight"
