"""Encoded texts of a data set: stored without padding, read with the padding that their encoder gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fusionframes_core.checkpoints.open_model import open_model
from fusionframes_core.models.text_encoder import TextContext, concatenate


@dataclass(frozen=True)
class Padding:
    """How a text encoder pads (see TextEncoderConfig). The U-Net's mean over tokens counts the padding."""

    max_tokens: int
    fixed_length: bool

    def __str__(self) -> str:
        return f"{'always' if self.fixed_length else 'at most'} {self.max_tokens} tokens"

    def join(self, texts: Sequence[Tensor]) -> TextContext:
        """Texts (N_i, D) without padding as the batch that `TextEncoder.encode` makes of their captions."""
        width = self.max_tokens if self.fixed_length else min(max(map(len, texts)) + 1, self.max_tokens)
        alone = (TextContext(text[None], torch.ones(1, len(text), dtype=torch.bool)) for text in texts)
        return concatenate([text.pad(width) for text in alone])


@dataclass(frozen=True)
class StoredText:
    """One text: `tokens` (N, D), float32, without padding."""

    tokens: Tensor
    padding: Padding

    @property
    def shape(self) -> str:
        """What texts must share to be joined, in words."""
        return f"{self.padding} of {self.tokens.shape[-1]} numbers"


def padding_of(model: str) -> Padding:
    """That of a bundled model, a model folder or official files. Raises CheckpointError when there is none."""
    config = open_model(model).config.text
    return Padding(config.max_tokens, config.fixed_length)
