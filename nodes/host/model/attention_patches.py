"""ComfyUI's attention and its patches on attention and blocks, as hooks of our U-Nets.

Blocks are called as in ComfyUI's own U-Nets: ("input", 0) is the first convolution, which has no attention, ("input",
n) the n-th down level, ("middle", 0) the lowest of them, ("output", n) the up levels from the lowest, 0. Within a block
attentions are counted. `attn1` is attention within a frame, `attn2` attention to the text; attention over time has no
place there and only takes ComfyUI's way of computing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import comfy.model_management as management
import torch
from comfy.ldm.modules import attention as comfy_attention
from torch import Tensor

from ....fusionframes_core.models.stage_memo import StageMemo, once
from ....fusionframes_core.models.unet.unet import Trunk
from ....fusionframes_core.models.unet.unet_blocks import CrossAttentionBlock, SelfAttentionBlock
from ....fusionframes_core.models.unet.unet_layers import Attention, TrunkHooks

PATCHES = frozenset(
    {
        *("attn1_patch", "attn1_output_patch", "attn2_patch", "attn2_output_patch"),
        *("input_block_patch", "input_block_patch_after_skip", "output_block_patch", "middle_block_after_patch"),
    }
)
"""The kinds of patches that act here."""
REPLACEMENTS = frozenset({"attn1", "attn2"})

BlockName = tuple[str, int]


@dataclass(frozen=True)
class Place:
    """Where an attention stands, in ComfyUI's words."""

    attention: str  # attn1 or attn2
    block: BlockName
    index: int  # in the block


def attention_places(trunk: Trunk) -> dict[Attention, Place]:
    """The attentions of a U-Net that patches can name."""
    places: dict[Attention, Place] = {}
    lowest = len(trunk.down_samples) - 1
    levels = [(_down_name(index, lowest), level) for index, level in enumerate(trunk.down_samples)]
    levels += [(("output", index), level) for index, level in enumerate(trunk.up_samples)]
    for block, level in levels:
        for name, kind in (("attn1", SelfAttentionBlock), ("attn2", CrossAttentionBlock)):
            found = [part.attention for part in level.modules() if isinstance(part, kind)]
            places |= {layer: Place(name, block, index) for index, layer in enumerate(found)}
    return places


def _down_name(level: int, lowest: int) -> BlockName:
    return ("middle", 0) if level == lowest else ("input", level + 1)


class Patches(TrunkHooks):
    """The hooks of one forward: ComfyUI's attention, the patches in `options`, and Cancel between the layers."""

    def __init__(self, trunk: Trunk, places: Mapping[Attention, Place], options: Mapping[str, Any], x: Tensor) -> None:
        self.places, self.lowest = places, len(trunk.down_samples) - 1
        self.extras: dict[Attention, dict[str, Any]] = {}  # what a layer's patches of this forward were told
        self.patches, self.replacements = options.get("patches", {}), options.get("patches_replace", {})
        self.options = {key: value for key, value in options.items() if key not in ("patches", "patches_replace")}
        # Patches of still images' U-Nets count tokens by it: the frames stand where images stand there.
        self.options["original_shape"] = [x.shape[0] * x.shape[2], x.shape[1], *x.shape[3:]]

    def attend(
        self, layer: Attention, x: Tensor, context: Tensor, mask: Tensor | None, memo: StageMemo | None
    ) -> Tensor:
        """See TrunkHooks."""
        check_cancel()
        patched = self.patches or self.replacements
        place = self.places.get(layer) if patched else None
        if place is None:
            projected = layer.to_query(x), *layer.keys_and_values(context, memo)
            return self._compute(layer, projected, mask, memo)
        extra = self.extras[layer] = self._extra(place.block, layer, place.index)
        x, context, value = self._change(f"{place.attention}_patch", (x, context, context), extra)
        replaced = self.replacements.get(place.attention, {})
        key = (*place.block, place.index) if (*place.block, place.index) in replaced else place.block
        projected = layer.to_query(x), layer.to_key(context), layer.to_value(value)
        if key in replaced:
            return replaced[key](*projected, {**extra, "mask": mask})
        return self._compute(layer, projected, mask, None)

    def output_patch(self, layer: Attention) -> Callable[[Tensor], Tensor] | None:
        """See TrunkHooks."""
        place = self.places.get(layer) if self.patches else None
        patches = self.patches.get(f"{place.attention}_output_patch", ()) if place is not None else ()
        if place is None or not patches:
            return None
        return partial(self._patched, patches, self.extras[layer])

    @staticmethod
    def _patched(patches: Sequence[Any], extra: dict[str, Any], out: Tensor) -> Tensor:
        for patch in patches:
            out = patch(out, extra)
        return out

    def after_down(self, level: int, frames: Tensor) -> tuple[Tensor, Tensor]:
        """See TrunkHooks."""
        check_cancel()
        block = _down_name(level, self.lowest)
        options = {**self.options, "block": block}
        if block[0] == "middle":
            for patch in self.patches.get("middle_block_after_patch", ()):
                frames = patch({"h": frames, "transformer_options": options})["h"]
            return frames, frames
        for patch in self.patches.get("input_block_patch", ()):
            frames = patch(frames, options)
        onward = frames
        for patch in self.patches.get("input_block_patch_after_skip", ()):
            onward = patch(onward, options)
        return frames, onward

    def before_up(self, level: int, frames: Tensor, skipped: Tensor) -> tuple[Tensor, Tensor]:
        """See TrunkHooks."""
        check_cancel()
        for patch in self.patches.get("output_block_patch", ()):
            frames, skipped = patch(frames, skipped, {**self.options, "block": ("output", level)})
        return frames, skipped

    def _extra(self, block: BlockName, layer: Attention, index: int) -> dict[str, Any]:
        """What a patch is told beside the tensors."""
        heads = layer.to_query.out_features // layer.head_dim
        own = {"block": block, "block_index": index, "n_heads": heads, "dim_head": layer.head_dim}
        return {**self.options, **own, "attn_precision": None}

    def _change(
        self, kind: str, inputs: tuple[Tensor, Tensor, Tensor], extra: dict[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        for patch in self.patches.get(kind, ()):
            inputs = patch(*inputs, extra)
        return inputs

    def _compute(
        self, layer: Attention, projected: tuple[Tensor, Tensor, Tensor], mask: Tensor | None, memo: StageMemo | None
    ) -> Tensor:
        """Attention of query, key and value, each (B, N, outputs)."""
        query, key, value = projected
        if mask is not None:
            mask = once(memo, ("added mask", key.shape[1]), partial(added_mask, mask, key))
        return comfy_attention.optimized_attention(
            *(query, key, value),
            query.shape[-1] // layer.head_dim,
            mask=mask,
            transformer_options=self.options,
        )


def added_mask(mask: Tensor, key: Tensor) -> Tensor:
    """A bool mask (B, 1, 1, N) as numbers to add to scores, which all of ComfyUI's attentions understand.

    Tokens that a patch added to the key (B, M, C) are seen.
    """
    mask = torch.nn.functional.pad(mask, (0, key.shape[1] - mask.shape[-1]), value=True)
    return torch.zeros_like(mask, dtype=key.dtype).masked_fill_(~mask, -torch.finfo(key.dtype).max)


def check_cancel() -> None:
    """Stop here if the run was cancelled; compiled networks are stopped between steps only."""
    if not torch.compiler.is_compiling():
        management.throw_exception_if_processing_interrupted()
