"""Our text encoder as ComfyUI's CLIP: ComfyUI's T5, which streams and casts, with our projection and null embedding."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import comfy.model_management as management
import comfy.ops
import comfy.sd
import torch
from comfy import sd1_clip
from comfy.supported_models_base import ClipTarget
from comfy.text_encoders.t5 import T5
from torch import Tensor

from ....fusionframes_core.checkpoints.state_dict import check_weights
from ....fusionframes_core.config import TextEncoderConfig
from ....fusionframes_core.models.text_encoder import TextContext
from ....fusionframes_core.models.tokenizer import load_tokenizer, tokenize
from ..comfy.memory import tell

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gated-gelu": partial(torch.nn.functional.gelu, approximate="tanh"),
    "gated-silu": torch.nn.functional.silu,
    "relu": torch.nn.functional.relu,
}
"""T5's feed-forwards by transformers' names."""
EMBEDDING = re.compile(r"\bembedding:[^\s,()]+")
ROW = "fusionframes"  # key of the tokens in what tokenize_with_weights returns


class Tokenizer:
    """What CLIP.tokenize calls. `(word:1.2)` weighs a word as ComfyUI's text encoders do."""

    def __init__(
        self, config: TextEncoderConfig, file: Path, embedding_directory: Any = None, tokenizer_data: Any = None
    ) -> None:
        self.config, self.tokenizer = config, load_tokenizer(file)

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **kwargs: Any) -> dict[str, Any]:
        """{key: [[(token, weight), ...]]}; an empty prompt has no tokens."""
        plain, weights = weigh_characters(without_embeddings(text))
        if not plain.strip():
            return {ROW: [[]]}
        ids = tokenize(self.tokenizer, [plain], self.config.max_tokens)[0]
        offsets = self.tokenizer(plain, return_offsets_mapping=True, verbose=False)["offset_mapping"]
        # A token may begin with the space before its word, so that its last character tells; the end token has none.
        found = [weights[stop - 1] if stop > start else 1.0 for start, stop in offsets]
        return {ROW: [list(zip(ids, [*found[: len(ids) - 1], 1.0], strict=True))]}

    def state_dict(self) -> dict[str, Any]:
        return {}


class TextModel(torch.nn.Module):
    """T5 and the projection, with the weight names of a model folder's text_encoder.safetensors (see `load_sd`)."""

    def __init__(
        self, config: TextEncoderConfig, device: Any = "cpu", dtype: Any = None, model_options: Any = None
    ) -> None:
        super().__init__()
        self.config, self.dtypes, self.device = config, {dtype}, None
        operations = (model_options or {}).get("custom_operations") or comfy.ops.manual_cast
        self.t5 = T5(t5_config(config), dtype, "meta", operations)
        for module in self.t5.modules():
            if hasattr(module, "act"):  # ComfyUI's T5 knows two of the functions that T5s have
                module.act = ACTIVATIONS[config.feed_forward]
        head: dict[str, Any] = {"device": "meta", "dtype": torch.float32}  # whatever T5's type: as in core
        self.projection = operations.Linear(config.d_model, config.context_dim, bias=False, **head)
        self.norm = operations.LayerNorm(config.context_dim, **head)

    def set_clip_options(self, options: Mapping[str, Any]) -> None:
        """ComfyUI says on which device the inputs belong; its other options mean nothing here."""
        self.device = options.get("execution_device", self.device)

    def reset_clip_options(self) -> None:
        self.device = None

    def load_sd(self, weights: Mapping[str, Tensor]) -> Any:
        """Load weights of a text encoder, taking the tensors as they are. Raises CheckpointError.

        Null embeddings stay out: an empty prompt gives zeros, in whose place each U-Net puts its own.
        """
        kind = next(iter(self.dtypes))
        own = {key: value for key, value in weights.items() if key.startswith(("t5.", "projection.", "norm."))}
        renamed = {
            rename(key): value.to(kind if key.startswith("t5.") else torch.float32) for key, value in own.items()
        }
        check_weights(self, renamed, "text_encoder.safetensors")
        return self.load_state_dict(renamed, assign=True)

    def encode_token_weights(self, tokens: Mapping[str, Any]) -> tuple[Tensor, None, dict[str, Tensor]]:
        """The context (B, N, D), no pooled output, and the mask under `attention_mask`."""
        encoded = [self.encode_weighted([token for token, *_ in row], [pair[1] for pair in row]) for row in tokens[ROW]]
        place = management.intermediate_device()
        mask = torch.cat([context.mask for context in encoded]).to(place)
        return torch.cat([context.context for context in encoded]).to(place).float(), None, {"attention_mask": mask}

    def encode_weighted(self, ids: list[int], weights: list[float]) -> TextContext:
        """One prompt's context (1, N, D), each token's moved away from the empty prompt's by its weight."""
        found = self.encode(ids)
        if all(weight == 1.0 for weight in weights):
            return found
        empty = self.encode(ids[-1:]).pad(found.context.shape[1]).context
        factors = torch.ones_like(found.context[..., :1])
        factors[0, : len(weights), 0] = torch.tensor(weights)
        return TextContext(torch.lerp(empty, found.context, factors), found.mask)

    def encode(self, ids: list[int]) -> TextContext:
        """One prompt's context (1, N, D), as core's TextEncoder.encode makes it; no ids: zeros, the null context."""
        device = self.device or management.text_encoder_device()
        width = (
            self.config.max_tokens if self.config.fixed_length else min(max(len(ids), 1) + 1, self.config.max_tokens)
        )
        if not ids:
            null = torch.zeros(1, width, self.config.context_dim, device=device)
            return TextContext(null, torch.arange(width, device=device)[None] == 0)
        count = min(len(ids) + 1, self.config.max_tokens)  # one token of padding is kept, as upstream
        mask = torch.arange(count, device=device)[None] < len(ids)
        row = torch.tensor([ids + [0] * (count - len(ids))], device=device)
        states, _ = self.t5(row, mask.float(), dtype=torch.float32)
        context = self.norm(self.projection(states)).masked_fill(~mask[..., None], 0.0)
        return TextContext(context, mask).pad(width)


def weigh_characters(text: str) -> tuple[str, list[float]]:
    """A prompt without the brackets of its weights, and the weight of each of its characters."""
    parts = [
        (sd1_clip.unescape_important(part), weight)
        for part, weight in sd1_clip.token_weights(sd1_clip.escape_important(text), 1.0)
    ]
    return "".join(part for part, _ in parts), [weight for part, weight in parts for _ in part]


def without_embeddings(text: str) -> str:
    """A prompt without `embedding:name`, which is made for other text encoders; a sentence says so."""
    names = EMBEDDING.findall(text)
    if names:
        tell(f"{' and '.join(names)} left out: there are no embeddings for the text encoder of FusionFrames")
    return EMBEDDING.sub("", text)


def t5_config(config: TextEncoderConfig) -> dict[str, Any]:
    """ComfyUI's names for a T5 encoder's sizes. Raises ValueError for a feed-forward, or heads, that it cannot have."""
    if config.feed_forward not in ACTIVATIONS:
        raise ValueError(f"feed_forward must be one of {', '.join(ACTIVATIONS)}; got {config.feed_forward!r}")
    if config.interpolation_head == "full" and config.interpolation_projection == "own":
        raise ValueError(
            "a text projection of interpolation's own is not supported in ComfyUI: it has one CLIP for both"
        )
    gated = config.feed_forward.startswith("gated-")
    return {
        "num_layers": config.num_layers,
        "d_model": config.d_model,
        "d_kv": config.d_kv,
        "num_heads": config.num_heads,
        "d_ff": config.d_ff,
        "vocab_size": config.vocab_size,
        "dense_act_fn": "relu",  # replaced by one of ACTIVATIONS
        "is_gated_act": gated,
        "model_type": "t5",
    }


def rename(key: str) -> str:
    """A weight's name in a model folder to its name here."""
    if not key.startswith("t5."):
        return key
    rest = key.removeprefix("t5.")
    return (
        "t5." + rest.replace("embed_tokens.", "shared.") if rest.startswith("embed_tokens.") else "t5.encoder." + rest
    )


def make_clip(
    config: TextEncoderConfig, tokenizer: Path, weights: Mapping[str, Tensor], options: dict[str, Any], **flags: Any
) -> comfy.sd.CLIP:
    """A CLIP from a model folder's text encoder weights and tokenizer.json."""
    target = ClipTarget(partial(Tokenizer, config, tokenizer), partial(TextModel, config))
    parameters = sum(weight.numel() for weight in weights.values())
    return comfy.sd.CLIP(target, parameters=parameters, state_dict=[weights], model_options=options, **flags)
