"""A trained text encoder learns sentences of other wordings without changing what it says about captions.

The U-Nets were trained on its contexts, so those are the target: of a caption its own, and of a sentence those of the
caption that says the same, word for word where both have a word, and in the mean over tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from fusionframes_core.models.text_encoder import TextEncoder

from ..engine.figures import Figures
from ..engine.objective import Batch
from ..moving_shapes.paraphrases import HELD_OUT, TAUGHT, Paraphrase, plain_caption, random_paraphrases
from ..moving_shapes.prompts_file import ATTRIBUTES, VOCABULARY
from .attribute_objective import random_captions

MEAN_WEIGHT = 30.0  # a mean over 24 tokens, most of them zero padding, is small beside a token


class ContextReader(nn.Module):
    """A text encoder as a model of prompts: contexts (B, N, D)."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, prompts: list[str]) -> Tensor:
        """Contexts (B, N, D), zero at padding."""
        return self.encoder.encode(prompts).context


@dataclass(frozen=True)
class ParaphraseObjective:
    """Squared distance of a ContextReader's contexts from the `teacher`'s; half of a batch are captions."""

    teacher: TextEncoder
    batch_size: int
    unknown_rate: float = 0.15

    def make_batch(self, rng: np.random.Generator) -> Batch:
        """`prompts`, captions and then sentences, and for each the caption whose contexts are wanted."""
        captions = random_captions(rng, self.batch_size // 2, False, self.unknown_rate)["prompts"]
        pairs = random_paraphrases(rng, self.batch_size - len(captions), False, TAUGHT)
        return {
            "prompts": captions + [pair.prompt.prompt for pair in pairs],
            "wanted": captions + [pair.caption for pair in pairs],
        }

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Figures]:
        """The mean squared distances of the common words' contexts and, MEAN_WEIGHT times, of the means over tokens."""
        found = model(batch["prompts"])
        with torch.no_grad():
            wanted = self.teacher.encode(batch["wanted"]).context.to(found.device)
        rows, here, there = self._common_words(batch["prompts"], batch["wanted"])
        words = (found[rows, here] - wanted[rows, there]).square().mean()
        means = (found.mean(dim=1) - wanted.mean(dim=1)).square().mean()
        return words + MEAN_WEIGHT * means, {"words": words.item(), "means": means.item()}

    def _common_words(self, prompts: list[str], wanted: list[str]) -> tuple[list[int], list[int], list[int]]:
        """Rows, places in the prompts and places in what is wanted of the first of every word that both have."""
        rows, here, there = [], [], []
        tokens = zip(self.teacher.tokenize(prompts), self.teacher.tokenize(wanted), strict=True)
        for row, (prompt, caption) in enumerate(tokens):
            for place, token in enumerate(caption):
                found = place if prompt == caption else prompt.index(token) if token in prompt else None
                if found is not None and (prompt == caption or caption.index(token) == place):
                    rows.append(row)
                    here.append(found)
                    there.append(place)
        return rows, here, there


@dataclass(frozen=True)
class ParaphraseValidation:
    """How well sentences of wordings that training never sees are read, by what the `teacher` says of captions.

    Of a sentence's plain caption, one attribute is exchanged for each of its values; right is one whose caption has
    the mean context nearest to the sentence's. Also, how far captions' contexts moved (`captions`, mean square; the
    contexts' own is about 1).
    """

    teacher: TextEncoder
    sentences: int

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Figures of a ContextReader: val_<attribute>, the share of the sentences that name it, and `captions`."""
        rng = np.random.default_rng(1)
        found = random_paraphrases(rng, self.sentences, True, HELD_OUT)
        means = model([item.prompt.prompt for item in found]).mean(dim=1)
        figures = {f"val_{name}": self._share_right(found, means, name) for name in ATTRIBUTES}
        captions = random_captions(rng, self.sentences, True, 0.0)["prompts"]
        drift = model(captions) - self.teacher.encode(captions).context.to(means.device)
        return figures | {"captions": drift.square().mean().item()}

    def _share_right(self, sentences: list[Paraphrase], means: Tensor, attribute: str) -> float:
        values, right = VOCABULARY[attribute], []
        for sentence, mean in zip(sentences, means, strict=True):
            asked = getattr(sentence.prompt, attribute)
            if asked is None:
                continue
            prompts = [replace(sentence.prompt, **{attribute: value}) for value in values]
            known = self.teacher.encode([plain_caption(prompt, sentence.background) for prompt in prompts])
            distance = (known.context.mean(dim=1).to(mean.device) - mean).norm(dim=1)
            right.append(values[int(distance.argmin())] == asked)
        return float(np.mean(right))
