"""Ways to hold a large text encoder: in 16 bits, in 8 or 4 (bitsandbytes), or layer by layer from the disk.

However it is held, T5 computes in float32 (bitsandbytes' products apart): a prompt is encoded once, its rounding would
stay in every step of a video, and one layer at a time in float32 costs little.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..config import TextEncoderConfig
from ..errors import CheckpointError
from ..models.text_encoder import TextEncoder
from ..models.tokenizer import load_tokenizer
from .state_dict import Sources, check_sources, load_sources, read_sources
from .weights_file import refuse_stand_ins

TOKENIZER_FILE = "tokenizer.json"  # in a model folder, and beside Flan-UL2
MODES = ("full", "8bit", "4bit", "layers")
_BLOCKS = "t5.block."


@dataclass(frozen=True)
class TextOptions:
    """How the text encoder is held: `mode` is one of MODES."""

    mode: str = "full"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"text_mode must be one of {', '.join(MODES)}; got {self.mode!r}")
        if self.mode in ("8bit", "4bit") and importlib.util.find_spec("bitsandbytes") is None:
            raise ValueError(f"text_mode {self.mode} needs the package bitsandbytes, which is not installed")


FULL_TEXT = TextOptions()


def load_text_encoder(
    config: TextEncoderConfig,
    tokenizer: Path,
    sources: Sources,
    device: torch.device | str,
    dtype: torch.dtype,
    options: TextOptions,
) -> TextEncoder:
    """The text encoder of `sources`, in evaluation mode; `tokenizer` is a tokenizer.json or its folder.

    Raises CheckpointError when they do not fit.
    """
    encoder = TextEncoder(config, read_tokenizer(tokenizer), device="meta")
    check_sources(encoder, sources)
    if options.mode == "full":
        load_sources(encoder, sources, device, dtype)
        if dtype != torch.float32:
            compute_in_float32(encoder)
    else:
        _load_outside(encoder, sources, torch.device(device), dtype)
        if options.mode == "layers":
            _stream(encoder, sources, torch.device(device))
        else:
            _quantise(encoder, sources, torch.device(device), dtype, options.mode)
    return encoder.eval().requires_grad_(False)


def read_tokenizer(path: Path) -> Any:
    """The tokenizer. Raises CheckpointError when it is missing or none."""
    file = path / TOKENIZER_FILE if path.is_dir() else path
    if file.is_file():
        refuse_stand_ins(file)
    try:
        return load_tokenizer(path)
    except (FileNotFoundError, ValueError) as error:
        raise CheckpointError(str(error)) from error


def _load_outside(encoder: TextEncoder, sources: Sources, device: torch.device, dtype: torch.dtype) -> None:
    """Everything but T5's blocks: the embedding, the last norm, the projections."""
    own = {name: value for name, value in encoder.state_dict().items() if not name.startswith(_BLOCKS)}
    weights = read_sources(_restrict(sources, own), own, device, dtype)
    encoder.load_state_dict(weights, strict=False, assign=True)


def _restrict(sources: Sources, own: Mapping[str, Any]) -> Sources:
    return [(file, {name: theirs for name, theirs in names.items() if name in own}) for file, names in sources]


def _block_sources(sources: Sources, index: int) -> Sources:
    """What a T5 block is made of, under the names that the block itself has."""
    prefix = f"{_BLOCKS}{index}."
    return [
        (file, {name.removeprefix(prefix): theirs for name, theirs in names.items() if name.startswith(prefix)})
        for file, names in sources
    ]


def compute_in_float32(encoder: TextEncoder) -> None:
    """A block's weights are float32 while it runs; what is kept of them is as it was loaded."""
    kept: dict[nn.Parameter, torch.Tensor] = {}

    def widen(block: nn.Module, _: Any) -> None:
        for weight in block.parameters():
            kept[weight], weight.data = weight.data, weight.data.float()

    def narrow(block: nn.Module, _: Any, __: Any) -> None:
        for weight in block.parameters():
            weight.data = kept.pop(weight)

    blocks: Any = encoder.t5.block
    for block in blocks:
        block.register_forward_pre_hook(widen)
        block.register_forward_hook(narrow, always_call=True)


def _stream(encoder: TextEncoder, sources: Sources, device: torch.device) -> None:
    """Each block's weights come, in float32, when it runs and go when it has run: memory is that of one block."""
    blocks: Any = encoder.t5.block
    for index, block in enumerate(blocks):
        block_sources = _block_sources(sources, index)

        def fetch(module: nn.Module, _: Any, found: Sources = block_sources) -> None:
            weights = read_sources(found, module.state_dict(), device, torch.float32)
            module.load_state_dict(weights, strict=True, assign=True)
            module.requires_grad_(False)

        def drop(module: nn.Module, _: Any, __: Any) -> None:
            module.to("meta")

        block.register_forward_pre_hook(fetch)
        block.register_forward_hook(drop, always_call=True)


def _quantise(encoder: TextEncoder, sources: Sources, device: torch.device, dtype: torch.dtype, mode: str) -> None:
    """Load block by block, each matrix in 8 or 4 bits (LLM.int8, NF4); norms and biases stay in `dtype`."""
    bitsandbytes = importlib.import_module("bitsandbytes")
    blocks: Any = encoder.t5.block
    for index, block in enumerate(blocks):
        weights = read_sources(_block_sources(sources, index), block.state_dict(), torch.device("cpu"), dtype)
        block.load_state_dict(weights, strict=True, assign=True)
        for parent, name, linear in list(_linears(block)):
            setattr(parent, name, _quantised(bitsandbytes.nn, linear, mode, dtype))
        block.to(device)


def _linears(block: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    for parent in block.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Linear):
                yield parent, name, child


def _quantised(layers: Any, linear: nn.Linear, mode: str, dtype: torch.dtype) -> nn.Module:
    sizes = (linear.in_features, linear.out_features)
    if mode == "8bit":
        made = layers.Linear8bitLt(*sizes, bias=False, has_fp16_weights=False)
        made.weight = layers.Int8Params(linear.weight.data.half(), requires_grad=False, has_fp16_weights=False)
    else:
        # Stored as `dtype`: T5 takes a matrix's type for the one to compute in.
        made = layers.Linear4bit(*sizes, bias=False, compute_dtype=dtype, quant_type="nf4", quant_storage=dtype)
        made.weight = layers.Params4bit(
            linear.weight.data, requires_grad=False, quant_type="nf4", quant_storage=dtype, module=made
        )
    return made
