"""Prompt to U-Net context: a T5 encoder, then Linear (no bias) and LayerNorm (paper section 4; Flan-UL2 at full size).

transformers is imported only when an encoder is built, so that importing this module is cheap.
"""

from __future__ import annotations

import typing
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..config import TextEncoderConfig
from ..errors import named
from .layers import LayerFactory, TorchOperations
from .tokenizer import tokenize

if typing.TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

HEADS = ("keyframes", "interpolation")
INTERPOLATION_HEADS, INTERPOLATION_PROJECTIONS = ("shared", "null", "full"), ("own", "keyframes")
OWN, AS_PROMPT, IGNORED = NEGATIVE_READINGS = ("own", "as_prompt", "ignored")
"""How a negative prompt is read: by its own tokens; cut or padded to the prompt's tokens, with the prompt's mask (1.0's
code); or not at all (1.1's code)."""
NULL_EMBEDDING_STD = 0.02
PADDING, END_TOKEN = 0, 1  # T5's token ids


@dataclass(frozen=True)
class TextContext:
    """What the U-Nets attend to: `context` (B, N, D), zero at padding, and `mask` (B, N) bool, True = attend."""

    context: Tensor
    mask: Tensor

    def pad(self, num_tokens: int) -> TextContext:
        """The same context with zero, masked tokens appended up to `num_tokens`. Raises ValueError if it is longer."""
        missing = num_tokens - self.context.shape[1]
        if missing < 0:
            raise ValueError(
                f"num_tokens must be at least {self.context.shape[1]}, the context's length; got {num_tokens}"
            )
        return TextContext(functional.pad(self.context, (0, 0, 0, missing)), functional.pad(self.mask, (0, missing)))

    def to(self, *args: Any, **kwargs: Any) -> TextContext:
        """Move both tensors to a device; a dtype applies to `context` alone."""
        context = self.context.to(*args, **kwargs)
        return TextContext(context, self.mask.to(context.device))


def concatenate(contexts: Sequence[TextContext]) -> TextContext:
    """Join contexts along the batch, padded to the longest."""
    longest = max(context.context.shape[1] for context in contexts)
    padded = [context.pad(longest) for context in contexts]
    return TextContext(torch.cat([item.context for item in padded]), torch.cat([item.mask for item in padded]))


class InterpolationHead(nn.Module):
    """What interpolation has of its own in the official models: a null embedding, and in 1.1 a projection."""

    def __init__(self, config: TextEncoderConfig, layers: LayerFactory) -> None:
        super().__init__()
        full = config.interpolation_head == "full"
        self.projection = layers.linear(config.d_model, config.context_dim, bias=False) if full else None
        self.norm = layers.layer_norm(config.context_dim) if full else None
        self.null_embedding = new_null_embedding(config.context_dim, layers)


def new_null_embedding(width: int, layers: LayerFactory) -> nn.Parameter:
    """What stands for "no prompt": (width,), normal at random until it is trained."""
    embedding = nn.Parameter(torch.empty(width, device=layers.device, dtype=layers.dtype))
    nn.init.normal_(embedding, std=NULL_EMBEDDING_STD)
    return embedding


class TextEncoder(nn.Module):
    """T5 encoder with the projection to the U-Net's context and the null embedding of unconditional prompts.

    `tokenizer` is what `load_tokenizer` returns; None builds an encoder that takes token ids only. T5 is drawn at
    random; load a state dict for anything but training from scratch. Its embedding is stored once (`t5.embed_tokens`).
    Raises ValueError for a tokenizer with more tokens than the vocabulary, and for an unknown interpolation head.
    """

    def __init__(
        self,
        config: TextEncoderConfig,
        tokenizer: PreTrainedTokenizerFast | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        operations: Any = TorchOperations,
    ) -> None:
        super().__init__()
        if tokenizer is not None and len(tokenizer) > config.vocab_size:
            raise ValueError(f"the tokenizer has {len(tokenizer)} tokens, the text encoder only {config.vocab_size}")
        named(dict.fromkeys(INTERPOLATION_HEADS), "interpolation_head", config.interpolation_head)
        named(dict.fromkeys(INTERPOLATION_PROJECTIONS), "interpolation_projection", config.interpolation_projection)
        named(dict.fromkeys(NEGATIVE_READINGS), "official_negative", config.official_negative)
        layers = LayerFactory(operations, device, dtype)
        self.config = config
        self.tokenizer = tokenizer
        self.t5 = _build_t5(config, device, dtype)
        keep_float32(self.t5)
        self.projection = layers.linear(config.d_model, config.context_dim, bias=False)
        self.norm = layers.layer_norm(config.context_dim)
        self.null_embedding = new_null_embedding(config.context_dim, layers)
        own = config.interpolation_head != "shared"
        self.interpolation = InterpolationHead(config, layers) if own else None

    def forward(self, input_ids: Tensor, mask: Tensor) -> TextContext:
        """Encode token ids (B, L) with `mask` (B, L) bool, True = token, to a context of the longest prompt + 1."""
        return self.project(self.states(input_ids, mask), mask)

    def states(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """T5's states (B, L, d_model) of token ids (B, L) with `mask` (B, L) bool."""
        return self.t5(input_ids=input_ids, attention_mask=mask.long()).last_hidden_state

    def project(self, states: Tensor, mask: Tensor, head: str = "keyframes") -> TextContext:
        """T5 states (B, L, d_model) to the context: zero at padding, of which one token is kept after the longest one.

        Prompts whose states are not finite (T5 may overflow in fp16) become the null context, with a warning.
        """
        mask = mask.bool()
        finite = torch.isfinite(states).flatten(1).all(dim=1)
        # One padding token stays behind the longest prompt: the official code's, and the U-Net's mean counts it.
        num_tokens = min(int(mask.sum(dim=1).max()) + 1, mask.shape[1])
        projection, norm = self._projection(head)
        states, mask = states[:, :num_tokens].float(), mask[:, :num_tokens]
        context = project_in_float32(states, projection, norm).masked_fill(~mask[..., None], 0.0)
        if bool(finite.all()):
            return TextContext(context, mask)
        warnings.warn("the text encoder overflowed and ignores the prompt; use bf16 or fp32 for it", stacklevel=2)
        return self._with_null(TextContext(context, mask), ~finite, head)

    def encode(self, prompts: Sequence[str]) -> TextContext:
        """Encode prompts to a context (B, N, D), N = tokens of the longest prompt + 1, at most `max_tokens`.

        With the config's `fixed_length` N is always `max_tokens`, so that the U-Net's mean over tokens (padding
        included, as upstream) does not depend on the other prompts of the batch. An empty prompt gives the null
        context. A prompt that is too long is cut, with a warning that says what was cut. Every prompt's tokens are
        the same alone and in a batch. Raises TypeError for anything but strings.
        """
        return self.encode_for(prompts, ("keyframes",))[0]

    def encode_for(self, prompts: Sequence[str], heads: Sequence[str]) -> list[TextContext]:
        """`encode` for each of `heads` (of HEADS); T5 runs once."""
        return self._encode_ids(self.tokenize(prompts), [not prompt.strip() for prompt in prompts], heads)

    def encode_negative(self, negative: str, prompts: Sequence[str], official: bool = False) -> TextContext | None:
        """A negative prompt's keyframe context beside those of `prompts`; None is the null context.

        `official`: as the official code of this model reads it (the config's `official_negative`).
        """
        reading = self.config.official_negative if official else OWN
        if not negative or reading == IGNORED:
            return None
        if reading == OWN:
            return self.encode([negative] * len(prompts))
        (tokens,) = self.tokenize([negative])
        ids = [tokens_as_prompt(tokens, len(row)) for row in self.tokenize(prompts)]
        return self._encode_ids(ids, [False] * len(ids), HEADS[:1])[0]

    def _encode_ids(self, ids: list[list[int]], is_empty: list[bool], heads: Sequence[str]) -> list[TextContext]:
        """A context of each head for rows of token ids, of which empty ones become the null context."""
        width = min(max(map(len, ids)) + 1, self.config.max_tokens)
        device = self.null_embedding.device
        tokens = torch.tensor([row + [0] * (width - len(row)) for row in ids], device=device)
        lengths = torch.tensor([len(row) for row in ids], device=device)
        mask = torch.arange(width, device=device) < lengths[:, None]
        states = self.states(tokens, mask)
        empty = torch.tensor(is_empty, device=device)
        contexts = []
        for head in heads:
            encoded = self.project(states, mask, head)
            encoded = encoded.pad(self.config.max_tokens) if self.config.fixed_length else encoded
            contexts.append(self._with_null(encoded, empty, head))
        return contexts

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of each prompt, the end token included, at most `max_tokens`; warns of what is cut."""
        if self.tokenizer is None:
            raise ValueError("this text encoder was built without a tokenizer and takes token ids only")
        return tokenize(self.tokenizer, prompts, self.config.max_tokens)

    def null_context(self, batch: int, num_tokens: int | None = None, head: str = "keyframes") -> TextContext:
        """The unconditional context: the null embedding at token 0, then masked zeros, (batch, num_tokens, D).

        The official code gives it the prompt's number of tokens, which the U-Net's mean over tokens sees. None: as
        many as an empty prompt has.
        """
        num_tokens = num_tokens or (self.config.max_tokens if self.config.fixed_length else 2)
        return null_context(self.null_of(head), batch, num_tokens)

    def _projection(self, head: str) -> tuple[Any, Any]:
        """The projection and the norm of a head: interpolation's own where it has some."""
        own = self.interpolation if head == "interpolation" else None
        # 1.1's code has a projection for interpolation, loads it, and projects with the keyframes' ("keyframes").
        if own is not None and own.projection is not None and self.config.interpolation_projection == "own":
            return own.projection, own.norm
        return self.projection, self.norm

    def null_of(self, head: str) -> Tensor:
        """The null embedding (D,) of a head."""
        if head not in HEADS:
            raise ValueError(f"head must be one of {', '.join(HEADS)}; got {head!r}")
        own = self.interpolation if head == "interpolation" else None
        return (own or self).null_embedding

    def _with_null(self, encoded: TextContext, rows: Tensor, head: str = "keyframes") -> TextContext:
        """Put a head's null context in the place of the chosen rows (B,) bool."""
        first = torch.arange(encoded.mask.shape[1], device=rows.device) == 0
        null = first[:, None] * self.null_of(head)
        context = torch.where(rows[:, None, None], null.to(encoded.context.dtype), encoded.context)
        return TextContext(context, torch.where(rows[:, None], first, encoded.mask))


def project_in_float32(states: Tensor, projection: nn.Linear, norm: nn.LayerNorm) -> Tensor:
    """The norm of the projected states, computed in float32 whatever type the weights are kept in."""
    projected = functional.linear(states, projection.weight.float())
    return functional.layer_norm(projected, norm.normalized_shape, norm.weight.float(), norm.bias.float(), norm.eps)


def keep_float32(stack: nn.Module) -> None:
    """Let a T5 of 16-bit weights add up its layers in float32, and give float32 states: only products are rounded.

    Its norms compute in float32 as they are. A T5 in float32 does nothing else than before.
    """

    def add_up(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return (given[0].float(), *given[1:])

    def last_norm(norm: Any, given: tuple[Any, ...], made: Tensor) -> Tensor:
        if made.dtype == torch.float32:
            return made
        scale = torch.rsqrt(given[0].pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)
        return norm.weight.float() * (given[0] * scale)

    blocks, norm = typing.cast(Any, stack).block, typing.cast(Any, stack).final_layer_norm
    blocks[0].register_forward_pre_hook(add_up)
    norm.register_forward_hook(last_norm)


def tokens_as_prompt(ids: list[int], count: int) -> list[int]:
    """A negative prompt's token ids beside a prompt of `count` tokens, as in 1.0's code: as many, all attended to."""
    cut = ids[:count]
    return [*cut[:-1], END_TOKEN] + [PADDING] * (count - len(cut))


def null_context(embedding: Tensor, batch: int, num_tokens: int) -> TextContext:
    """The unconditional context (batch, num_tokens, D) of a null embedding (D,): it alone is attended to."""
    context = embedding.new_zeros(batch, num_tokens, embedding.shape[-1])
    mask = torch.zeros(batch, num_tokens, dtype=torch.bool, device=context.device)
    context[:, 0], mask[:, 0] = embedding, True
    return TextContext(context, mask)


def _build_t5(config: TextEncoderConfig, device: torch.device | str | None, dtype: torch.dtype | None) -> nn.Module:
    from transformers import T5Config, T5EncoderModel
    from transformers.activations import ACT2FN

    named(ACT2FN, "feed_forward", config.feed_forward.removeprefix("gated-"))
    t5_config = T5Config(
        vocab_size=config.vocab_size,
        d_model=config.d_model,
        d_kv=config.d_kv,
        d_ff=config.d_ff,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        feed_forward_proj=config.feed_forward,
        dropout_rate=0.0,
        pad_token_id=PADDING,
        eos_token_id=END_TOKEN,
    )
    with torch.device("cpu" if device is None else device):
        # The stack alone: T5EncoderModel's second name for the embedding would be stored twice.
        encoder: nn.Module = T5EncoderModel(t5_config).encoder
    return encoder.to(dtype=dtype or torch.get_default_dtype())
