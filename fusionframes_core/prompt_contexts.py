"""What the stages of one generation read: the prompts' contexts, the negative prompt's, and the null contexts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .checkpoints.offload import OffloadedModels
from .models.text_encoder import HEADS, TextContext, TextEncoder, null_context
from .sampling.options import ContextPair
from .settings import ResolvedSettings


@dataclass(frozen=True)
class Contexts:
    """The contexts of one generation, by the stage that reads them."""

    keyframes: ContextPair
    interpolation: TextContext | None = None  # 1.1: interpolation reads the prompt too


class PromptContexts:
    """Contexts made by the text encoder of `models`, and its null embeddings, for which it need not come back."""

    def __init__(self, models: OffloadedModels) -> None:
        self._models = models
        self._nulls: dict[str, Tensor] = {}

    def encode(self, prompts: list[str], stage: str) -> TextContext:
        """Contexts (B, N, D) of prompts for one stage; an empty prompt gets the stage's null context."""
        with self._encoder() as encoder:
            return encoder.encode_for(prompts, (stage,))[0]

    def encode_all(self, prompts: list[str], chosen: ResolvedSettings) -> Contexts:
        """Every context that a generation needs, so that the text encoder can go before the U-Nets come."""
        heads = HEADS if self._models.config.interpolation_text else HEADS[:1]
        with self._encoder() as encoder:
            keyframes, *interpolation = encoder.encode_for(prompts, heads)
            avoided = encoder.encode_negative(chosen.negative_prompt, prompts, chosen.negative == "official")
        return Contexts(self.keyframe_pair(keyframes, avoided), *interpolation)

    def keyframe_pair(self, text: TextContext, negative: TextContext | None) -> ContextPair:
        """The keyframes' contexts on the models' device; no negative prompt is the null context."""
        device = self._models.device
        text = text.to(device)
        if negative is None:
            return ContextPair(text, self._null(text, text.context.shape[0], "keyframes"))
        return ContextPair(text, negative.to(device))

    def interpolation_pair(self, text: TextContext | None, batch: int) -> ContextPair:
        """The interpolation's contexts on the models' device; the null context where there is no text, or none is
        read."""
        text = text if self._models.config.interpolation_text else None
        null = self._null(text, batch, "interpolation")
        return ContextPair(null if text is None else text.to(self._models.device), null)

    @contextmanager
    def _encoder(self) -> Iterator[TextEncoder]:
        with self._models.stage("text_encoder") as encoder:
            self._nulls = {head: encoder.null_of(head).detach().clone() for head in HEADS}
            yield encoder

    def _null(self, text: TextContext | None, batch: int, head: str) -> TextContext:
        """A stage's null context, of the prompt's number of tokens as upstream (2 without a prompt)."""
        if not self._nulls:
            with self._encoder():
                pass
        sizes = self._models.config.text
        shortest = sizes.max_tokens if sizes.fixed_length else 2
        count = text.context.shape[1] if text is not None else shortest
        return null_context(self._nulls[head], batch, count).to(self._models.device)


def check_prompts(prompt: Any) -> list[str]:
    """The prompts as a list. Raises ValueError unless they are a string or a list of strings, at least one."""
    prompts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(prompts, list) or not prompts or not all(isinstance(text, str) for text in prompts):
        raise ValueError(f"prompt must be a string or a list of strings; got {prompt!r}")
    return prompts
