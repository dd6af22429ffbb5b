"""Base stage: the tiny text encoder, taught to read attributes out of Moving Shapes' captions.

`python -m training.train_text_encoder --config training/configs/tiny_text_encoder.yaml` writes
`text_encoder.safetensors` and `tokenizer.json`. The U-Nets see a prompt in two ways: token by token in cross-attention,
and as the mean over tokens in the time embedding, the only way for the temporal blocks. So the attributes must be
readable from both.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fusionframes_core.files import atomic_path
from fusionframes_core.models.text_encoder import TextContext, TextEncoder
from fusionframes_core.models.tokenizer import load_tokenizer

from .engine.figures import Figures
from .engine.model_config import model_config
from .engine.run_settings import TrainSettings
from .engine.stage_command import run_command
from .engine.trainer import Batch, Trainer
from .moving_shapes.scenes import BACKGROUNDS, COLOURS, MOTIONS, SHAPES, SIZES, SPEEDS, Scene, caption, sample_scene
from .moving_shapes.shapes_tokenizer import build_tokenizer

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


def accuracies(model: AttributeReader, count: int, seed: int, batch_size: int = 256) -> dict[str, float]:
    """Share of held-out captions whose attribute is read rightly from the mean (val_…) and the tokens (tokens_…)."""
    rng = np.random.default_rng(seed)
    right: dict[str, list[Tensor]] = {}
    for start in range(0, count, batch_size):
        batch = random_captions(rng, min(batch_size, count - start), held_out=True, unknown_rate=0.0)
        for prefix, logits in zip(("val", "tokens"), model(batch["prompts"]), strict=True):
            for name in ATTRIBUTES:
                hits = logits[name].argmax(dim=1).cpu() == batch["classes"][name]
                right.setdefault(f"{prefix}_{name}", []).append(hits.float())
    return {name: float(torch.cat(hits).mean()) for name, hits in right.items()}


def train(
    train: TrainSettings,
    preset: str = "tiny",
    unknown_rate: float = 0.15,
    mean_noise: float = 0.2,
    validation_captions: int = 4000,
) -> None:
    """Train the text encoder of `preset` and write it with its tokenizer to the run's folder.

    Args:
        train: the run: output folder, steps, batch size, rates.
        preset: model whose text encoder is trained.
        unknown_rate: share of captions that get a word outside the vocabulary.
        mean_noise: standard deviation of the noise on the mean over tokens, so that attributes lie far apart in it.
        validation_captions: held-out captions that the accuracies are measured on.
    """
    train.output.mkdir(parents=True, exist_ok=True)
    path = train.output / "tokenizer.json"
    with atomic_path(path) as partial:  # of its own for each process
        build_tokenizer().save(str(partial))
    torch.manual_seed(train.seed)  # for the weights that are drawn here
    encoder = TextEncoder(model_config(preset).text, load_tokenizer(path))
    encoder.null_embedding.requires_grad_(False)  # the U-Nets learn what it means

    def loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Figures]:
        from_mean, from_tokens = model(batch["prompts"], mean_noise)
        mean, tokens = attribute_loss(from_mean, batch["classes"]), attribute_loss(from_tokens, batch["classes"])
        return mean + tokens, {"mean_loss": mean.item(), "tokens_loss": tokens.item()}

    trainer = Trainer(
        train,
        AttributeReader(encoder),
        loss,
        lambda rng: random_captions(rng, train.batch_size, held_out=False, unknown_rate=unknown_rate),
        lambda model: accuracies(model, validation_captions, seed=1),
        stage="text_encoder",
        architecture={"text": encoder.config},
    )
    trainer.run()
    trainer.export("text_encoder.safetensors", "encoder.")


if __name__ == "__main__":
    run_command(train)
