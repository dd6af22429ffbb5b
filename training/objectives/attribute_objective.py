"""The text encoder: the attributes of Moving Shapes' captions, read out of its contexts by linear heads.

The U-Nets see a prompt in two ways: token by token in cross-attention, and as the mean over tokens in the time
embedding, the only way for the temporal blocks. So the attributes must be readable from both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fusionframes_core.models.text_encoder import TextContext, TextEncoder

from ..engine.figures import Figures
from ..engine.objective import Batch
from ..moving_shapes.scenes import BACKGROUNDS, COLOURS, MOTIONS, SHAPES, SIZES, SPEEDS, Scene, caption, sample_scene

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "shape": SHAPES,
    "colour": tuple(COLOURS),
    "size": tuple(SIZES),
    "motion": tuple(MOTIONS),
    "speed": SPEEDS,
    "background": BACKGROUNDS,
}
OPTIONAL = ("size", "speed", "background")  # captions may leave them out: a class of its own
FILLER = ("nice", "picture", "video", "really", "photo", "thing")  # words outside the vocabulary


class AttributeReader(nn.Module):
    """A text encoder with two sets of linear heads: on the mean over tokens and on attention-pooled tokens."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        width = encoder.config.context_dim
        self.encoder = encoder
        self.query = nn.Linear(width, 1)
        counts = {name: len(words) + (name in OPTIONAL) for name, words in ATTRIBUTES.items()}
        self.mean_heads = nn.ModuleDict({name: nn.Linear(width, count) for name, count in counts.items()})
        self.token_heads = nn.ModuleDict({name: nn.Linear(width, count) for name, count in counts.items()})

    def forward(self, prompts: list[str], noise: float = 0.0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Logits (B, classes) of every attribute from the mean and from the tokens; `noise` is added to the mean."""
        encoded = self.encoder.encode(prompts)
        mean = self.mean(encoded)
        mean = mean + noise * torch.randn_like(mean)
        weights = self.query(encoded.context).squeeze(-1).masked_fill(~encoded.mask, -torch.inf).softmax(dim=1)
        tokens = torch.einsum("bn,bnd->bd", weights, encoded.context)
        return (
            {name: head(mean) for name, head in self.mean_heads.items()},
            {name: head(tokens) for name, head in self.token_heads.items()},
        )

    def mean(self, encoded: TextContext) -> Tensor:
        """The U-Net's mean over tokens (B, D) as it is for each prompt alone; zero padding tokens count too.

        In training a random number of them counts, so that the attributes are readable from every length.
        """
        limit = self.encoder.config.max_tokens
        count = (encoded.mask.sum(dim=1) + 1).clamp(max=limit).float()
        if self.training:
            count = count + torch.rand_like(count) * (limit - count)
        elif self.encoder.config.fixed_length:
            return encoded.context.mean(dim=1)
        return encoded.context.sum(dim=1) / count[:, None]


def spoken_attributes(scene: Scene, text: str) -> dict[str, int]:
    """Class of every attribute; an optional one that `text` leaves out has the class after its last."""
    words = text.replace(",", " ").split()
    said = {
        "size": scene.size in words,
        "speed": scene.speed in words,
        "background": "background" in words,
    }
    return {
        name: choices.index(getattr(scene, name)) if said.get(name, True) else len(choices)
        for name, choices in ATTRIBUTES.items()
    }


def random_captions(rng: np.random.Generator, count: int, held_out: bool, unknown_rate: float) -> Batch:
    """`count` captions with their classes; a share of `unknown_rate` has a word that the tokenizer does not know."""
    prompts, rows = [], []
    for _ in range(count):
        scene = sample_scene(rng, held_out)
        text = caption(scene, rng)
        rows.append(spoken_attributes(scene, text))
        if rng.random() < unknown_rate:
            words = text.split()
            words.insert(int(rng.integers(len(words) + 1)), str(rng.choice(FILLER)))
            text = " ".join(words)
        prompts.append(text)
    return {"prompts": prompts, "classes": {name: torch.tensor([row[name] for row in rows]) for name in ATTRIBUTES}}


def attribute_loss(logits: dict[str, Tensor], classes: dict[str, Tensor]) -> Tensor:
    """Mean cross-entropy over the attributes."""
    return torch.stack(
        [functional.cross_entropy(logits[k], classes[k].to(logits[k].device)) for k in ATTRIBUTES]
    ).mean()


@dataclass(frozen=True)
class AttributeObjective:
    """Cross-entropy of an AttributeReader's attributes; `unknown_rate` and `mean_noise` as the stage's options."""

    batch_size: int
    unknown_rate: float = 0.15
    mean_noise: float = 0.2

    def make_batch(self, rng: np.random.Generator) -> Batch:
        """`prompts` and `classes`, attribute → (B,)."""
        return random_captions(rng, self.batch_size, held_out=False, unknown_rate=self.unknown_rate)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Figures]:
        """The sum of the losses from the mean over tokens and from the tokens."""
        from_mean, from_tokens = model(batch["prompts"], self.mean_noise)
        mean, tokens = attribute_loss(from_mean, batch["classes"]), attribute_loss(from_tokens, batch["classes"])
        return mean + tokens, {"mean_loss": mean.item(), "tokens_loss": tokens.item()}


@dataclass(frozen=True)
class AttributeValidation:
    """Share of held-out captions whose attribute is read right from the mean (val_…) and from the tokens (tokens_…)."""

    captions: int
    batch_size: int = 256

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Figures of an AttributeReader."""
        rng = np.random.default_rng(1)
        right: dict[str, list[Tensor]] = {}
        for start in range(0, self.captions, self.batch_size):
            count = min(self.batch_size, self.captions - start)
            batch = random_captions(rng, count, held_out=True, unknown_rate=0.0)
            for prefix, logits in zip(("val", "tokens"), model(batch["prompts"]), strict=True):
                for name in ATTRIBUTES:
                    hits = logits[name].argmax(dim=1).cpu() == batch["classes"][name]
                    right.setdefault(f"{prefix}_{name}", []).append(hits.float())
        return {name: float(torch.cat(hits).mean()) for name, hits in right.items()}
