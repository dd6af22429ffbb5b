"""Prompt to U-Net context: a T5 encoder, then Linear (no bias) and LayerNorm (paper section 4; Flan-UL2 at full size).

transformers is imported only when an encoder is built or a tokenizer is loaded, so that importing this module is cheap.
"""

from __future__ import annotations

import typing
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..config import TextEncoderConfig
from .layers import TorchOperations
from .prompt_words import check_characters, quoted, warn_unknown

if typing.TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

HEADS = ("keyframes", "interpolation")
INTERPOLATION_HEADS, INTERPOLATION_PROJECTIONS = ("shared", "null", "full"), ("own", "keyframes")
SPECIAL_TOKENS = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


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

    def __init__(
        self, config: TextEncoderConfig, operations: Any, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        super().__init__()
        self.projection = self.norm = None
        if config.interpolation_head == "full":
            width = config.context_dim
            self.projection = operations.Linear(config.d_model, width, bias=False, device=device, dtype=dtype)
            self.norm = operations.LayerNorm(width, device=device, dtype=dtype)
        self.null_embedding = nn.Parameter(torch.empty(config.context_dim, device=device, dtype=dtype))
        nn.init.normal_(self.null_embedding, std=0.02)


class TextEncoder(nn.Module):
    """T5 encoder with the projection to the U-Net's context and the null embedding of unconditional prompts.

    `tokenizer` is what `load_tokenizer` returns; None builds an encoder that takes token ids only. T5 is drawn at
    random; load a state dict for anything but training from scratch. Its embedding is stored once (`t5.embed_tokens`).
    Raises ValueError when the tokenizer has more tokens than the config's vocabulary.
    """

    def __init__(
        self,
        config: TextEncoderConfig,
        tokenizer: PreTrainedTokenizerFast | None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        operations: Any = TorchOperations,
    ) -> None:
        super().__init__()
        if tokenizer is not None and len(tokenizer) > config.vocab_size:
            raise ValueError(f"the tokenizer has {len(tokenizer)} tokens, the text encoder only {config.vocab_size}")
        self.config = config
        self.tokenizer = tokenizer
        self.t5 = _build_t5(config, device, dtype)
        self.projection = operations.Linear(config.d_model, config.context_dim, bias=False, device=device, dtype=dtype)
        self.norm = operations.LayerNorm(config.context_dim, device=device, dtype=dtype)
        self.null_embedding = nn.Parameter(torch.empty(config.context_dim, device=device, dtype=dtype))
        nn.init.normal_(self.null_embedding, std=0.02)
        _check(config)
        own = config.interpolation_head != "shared"
        self.interpolation = InterpolationHead(config, operations, device, dtype) if own else None

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
        num_tokens = min(int(mask.sum(dim=1).max()) + 1, mask.shape[1])
        projection, norm = self._projection(head)
        states, mask = states[:, :num_tokens].to(norm.weight.dtype), mask[:, :num_tokens]
        context = norm(projection(states)).masked_fill(~mask[..., None], 0.0)
        if bool(finite.all()):
            return TextContext(context, mask)
        warnings.warn("the text encoder overflowed and ignores the prompt; use bf16 or fp32 for it", stacklevel=2)
        return self._replace(TextContext(context, mask), ~finite, head)

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
        ids = self.tokenize(prompts)
        width = min(max(map(len, ids)) + 1, self.config.max_tokens)
        device = self.null_embedding.device
        tokens = torch.tensor([row + [0] * (width - len(row)) for row in ids], device=device)
        lengths = torch.tensor([len(row) for row in ids], device=device)
        mask = torch.arange(width, device=device) < lengths[:, None]
        states = self.states(tokens, mask)
        empty = torch.tensor([not prompt.strip() for prompt in prompts], device=device)
        contexts = []
        for head in heads:
            encoded = self.project(states, mask, head)
            encoded = encoded.pad(self.config.max_tokens) if self.config.fixed_length else encoded
            contexts.append(self._replace(encoded, empty, head))
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
        if own is not None and own.projection is not None and self.config.interpolation_projection == "own":
            return own.projection, own.norm
        return self.projection, self.norm

    def null_of(self, head: str) -> Tensor:
        """The null embedding (D,) of a head."""
        if head not in HEADS:
            raise ValueError(f"head must be one of {', '.join(HEADS)}; got {head!r}")
        own = self.interpolation if head == "interpolation" else None
        return (own or self).null_embedding

    def _replace(self, encoded: TextContext, rows: Tensor, head: str = "keyframes") -> TextContext:
        """Put a head's null context in the place of the chosen rows (B,) bool."""
        first = torch.arange(encoded.mask.shape[1], device=rows.device) == 0
        null = first[:, None] * self.null_of(head)
        context = torch.where(rows[:, None, None], null.to(encoded.context.dtype), encoded.context)
        return TextContext(context, torch.where(rows[:, None], first, encoded.mask))


def null_context(embedding: Tensor, batch: int, num_tokens: int) -> TextContext:
    """The unconditional context (batch, num_tokens, D) of a null embedding (D,): it alone is attended to."""
    context = embedding.new_zeros(batch, num_tokens, embedding.shape[-1])
    mask = torch.zeros(batch, num_tokens, dtype=torch.bool, device=context.device)
    context[:, 0], mask[:, 0] = embedding, True
    return TextContext(context, mask)


def _check(config: TextEncoderConfig) -> None:
    tables = {"interpolation_head": INTERPOLATION_HEADS, "interpolation_projection": INTERPOLATION_PROJECTIONS}
    for field, allowed in tables.items():
        if getattr(config, field) not in allowed:
            raise ValueError(f"{field} must be one of {', '.join(allowed)}; got {getattr(config, field)!r}")


def tokenize(tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Token ids of each prompt, the end token included, at most `max_tokens`; warns of unknown words and what is cut.

    Raises TypeError for anything but strings, and ValueError that names the prompt for text that is none.
    """
    if isinstance(prompts, str) or not prompts or not all(isinstance(prompt, str) for prompt in prompts):
        raise TypeError(f"prompts must be a list of at least one string; got {prompts!r}")
    for prompt in prompts:
        check_characters(prompt)
    encoded = tokenizer(list(prompts), return_offsets_mapping=True, verbose=False)
    rows, unknown = [], {}
    for prompt, ids, offsets in zip(prompts, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        if len(ids) > max_tokens:
            _warn_cut(prompt[offsets[max_tokens - 2][1] :].strip(), len(ids), max_tokens)
            ids = [*ids[: max_tokens - 1], tokenizer.eos_token_id]
        rows.append(ids)
        unknown[prompt] = [place for token, place in zip(ids, offsets) if token == tokenizer.unk_token_id]
    for prompt, places in unknown.items():
        warn_unknown(prompt, places)
    return rows


def load_tokenizer(folder_or_file: str | Path) -> PreTrainedTokenizerFast:
    """Load a T5-style fast tokenizer from a `tokenizer.json` or the folder that holds one.

    Raises FileNotFoundError when there is none, and ValueError when it is no tokenizer or lacks <pad>, </s> or <unk>.
    """
    path = Path(folder_or_file)
    path = path / "tokenizer.json" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"no tokenizer at {path}: it must be a tokenizer.json or a folder that holds one")
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise ValueError(f"{path} is not a tokenizer.json of the tokenizers library: {error}") from error
    missing = [token for token in SPECIAL_TOKENS.values() if tokenizer.token_to_id(token) is None]
    if missing:
        raise ValueError(f"{path} is not a T5 tokenizer: it lacks {', '.join(missing)}")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS)


def _build_t5(config: TextEncoderConfig, device: torch.device | str | None, dtype: torch.dtype | None) -> nn.Module:
    from transformers import T5Config, T5EncoderModel

    t5_config = T5Config(
        vocab_size=config.vocab_size,
        d_model=config.d_model,
        d_kv=config.d_kv,
        d_ff=config.d_ff,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        feed_forward_proj=config.feed_forward,
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
    )
    with torch.device("cpu" if device is None else device):
        # The stack alone: T5EncoderModel's second name for the embedding would be stored twice.
        encoder: nn.Module = T5EncoderModel(t5_config).encoder
    return encoder.to(dtype=dtype or torch.get_default_dtype())


def _warn_cut(text: str, num_tokens: int, limit: int) -> None:
    warnings.warn(
        f"the prompt has {num_tokens} tokens, the text encoder takes {limit}; "
        f"its last {len(text.split())} word(s) were cut: {quoted(text)}",
        stacklevel=4,
    )
