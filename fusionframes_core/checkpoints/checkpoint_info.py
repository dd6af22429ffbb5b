"""What a weights file is, told from the names (and a few shapes) of its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..errors import CheckpointError
from .component import KINDS, ComponentKind
from .names import RULES, TEXT_RULES, ours_from_official
from .weights_file import WeightsFile

Shapes = Mapping[str, tuple[int, ...]]

TITLES = {
    **{kind.name: kind.title for kind in KINDS.values() if not kind.file_kind},
    "t5": "T5 text encoder",
    "projections": "text projections file",
}
"""What a file can be: a component, or one of the two official files that the text encoder is put together from."""

UNET_PREFIX, TEXT_PREFIX = "unet.", "text."  # of the U-Net in an official file, of the text's parts in ours
PREFIXES = (UNET_PREFIX, "model.diffusion_model.", "diffusion_model.", "first_stage_model.")
"""What may stand before every name of a network: in official files, and in what ComfyUI's saving nodes write."""


@dataclass(frozen=True)
class CheckpointInfo:
    """A file's model: `names` are ours → the file's, of the model itself; `text` of text parts that came with it.

    `kind` is a key of TITLES, or None for a model that is not ours; `version` is of KandinskyVideo, None where it
    cannot be told; `official` says whose names the file has.
    """

    kind: str | None
    version: str | None
    official: bool
    title: str
    names: dict[str, str]
    text: dict[str, str] = field(default_factory=dict)

    @property
    def phrase(self) -> str:
        """The title with its article."""
        return with_article(self.title)


def component_of(file_kind: str) -> str:
    """The component of a model that a file of this kind is: a text-to-image U-Net is the keyframe one without time."""
    return (KINDS[file_kind].component if file_kind in KINDS else "") or file_kind


def require_kind(kind: ComponentKind, file: WeightsFile, info: CheckpointInfo, own: Iterable[str] = ()) -> None:
    """Raise CheckpointError, in one sentence, when a file holds another kind of component than `kind`.

    With the names `own` of the network's tensors the error also carries what is missing and what is too much.
    """
    wanted = kind.file_kind or kind.name
    if info.kind is not None and component_of(info.kind) == component_of(wanted):
        return
    keys = set(own)
    unexpected = tuple(name for name in info.names if name not in keys)
    missing = tuple(name for name in keys if name not in info.names)
    raise CheckpointError(
        f"{file.path} is {info.phrase}, but {with_article(kind.title)} was expected", missing, unexpected
    )


def with_article(title: str) -> str:
    """A title with its article."""
    return f"{'an' if title[0] in 'aeiouAEIOU' else 'a'} {title}"


# Of each model that is often mistaken for ours: names of which all must be there, and what to call it.
_FOREIGN: tuple[tuple[tuple[str, ...], str], ...] = (
    ((r"(^|\.)double_blocks\.0\.img_attn\.qkv\.",), "Flux model"),
    ((r"(^|\.)double_blocks\.0\.img_attn_qkv\.",), "HunyuanVideo model"),
    ((r"(^|\.)blocks\.0\.self_attn\.q\.weight", r"(^|\.)blocks\.0\.cross_attn\.k\.weight"), "Wan model"),
    ((r"(^|\.)patchify_proj\.weight", r"(^|\.)transformer_blocks\.0\.attn1\."), "LTX-Video model"),
    ((r"(^|\.)joint_blocks\.0\.",), "Stable Diffusion 3 model"),
    ((r"(^|\.)input_blocks\.0\.0\.weight", r"(^|\.)label_emb\.0\.0\.weight"), "Stable Diffusion XL model"),
    ((r"(^|\.)input_blocks\.0\.0\.weight",), "Stable Diffusion model"),
    ((r"^down_blocks\.0\.(attentions|resnets)\.0\.", r"^mid_block\."), "Stable Diffusion U-Net of diffusers"),
    ((r"motion_modules?\.",), "AnimateDiff motion module"),
    ((r"[._]lora(_linear_layer)?[._](up|A|down|B)(\.|$)",), "LoRA"),
    ((r"^first_stage_model\.|^decoder\.mid\.block_1\.norm1\.weight",), "Stable Diffusion autoencoder"),
    ((r"^decoder\.(middle|upsamples)\.\d+\.",), "Wan autoencoder"),
    ((r"text_model\.encoder\.layers\.0\.",), "CLIP text encoder"),
)
_STABLE_DIFFUSION_VERSIONS = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x"}


def identify(shapes: Shapes) -> CheckpointInfo:
    """Tell the model whose tensors have these names and shapes."""
    prefix = next((prefix for prefix in PREFIXES if any(name.startswith(prefix) for name in shapes)), "")
    model = {name.removeprefix(prefix) for name in shapes if name.startswith(prefix)}
    known = _recognise(model)
    if known is not None and known[0] == "t5":
        # A whole T5 has a decoder too, and a second name for the embedding.
        model = {name for name in model if name.startswith(("shared.", "encoder.")) and ".embed_tokens." not in name}
    if known is None:
        title = _foreign(shapes)
        return CheckpointInfo(None, None, False, title, {name: name for name in shapes})
    kind, version, official = known
    rules = TEXT_RULES.get((kind, version or ""), ()) if official else ()
    text = {ours: name for name in shapes if (ours := _text_name(name, rules)) is not None}
    names = {_own_name(name, known): prefix + name for name in model if prefix + name not in text.values()}
    if kind == "projections":
        names, text = {}, text
    title = f"KandinskyVideo {version} {TITLES[kind]}" if version and kind != "t5" else TITLES[kind]
    return CheckpointInfo(kind, version, official, title, names, text)


def _own_name(name: str, known: tuple[str, str | None, bool]) -> str:
    kind, version, official = known
    rules = RULES.get((component_of(kind), version or "1.0"), ())
    return ours_from_official(name, rules) if official else name


def _text_name(name: str, rules: tuple[tuple[str, str], ...]) -> str | None:
    """Our name of a text part, None for anything else."""
    if name.startswith(TEXT_PREFIX):
        return name.removeprefix(TEXT_PREFIX)
    for rule in rules:
        ours = ours_from_official(name, (rule,))
        if ours != name or rule[0].strip("^$") == name:
            return ours
    return None


def _recognise(names: set[str]) -> tuple[str, str | None, bool] | None:
    """(kind, version, official names?) of one of our models."""
    if "t5.embed_tokens.weight" in names and "projection.weight" in names:
        return "text_encoder", None, False
    if "projection_base.0.weight" in names:
        return "projections", "1.1", True
    if "shared.weight" in names and "encoder.block.0.layer.0.SelfAttention.q.weight" in names:
        return "t5", None, True
    if "post_quant_conv.weight" in names and "decoder.norm_out.conv_y.weight" in names:
        official = any(name.endswith(".temporal_merge1") for name in names)
        return "movq", "1.1" if official else None, official or not any(".temporal" in name for name in names)
    if "in_layer.weight" in names and "out_layer.2.weight" in names:
        return _recognise_unet(names)
    return ("projections", "1.1", False) if f"{TEXT_PREFIX}projection.weight" in names else None


def _recognise_unet(names: set[str]) -> tuple[str, str | None, bool] | None:
    stills = "image_in_layer.weight" in names
    if "skip_embeddings.weight" in names:
        return "interpolation", "1.1" if any("temporal_projection_new." in name for name in names) else "1.0", True
    if "group_embedding.skip_frames.weight" in names:
        return "interpolation", None, False
    if "to_temporal_embed.1.weight" in names:
        return "keyframe", "1.1" if stills else "1.0", True
    if "frame_embedding.position.linear_in.weight" in names:
        return "keyframe", None, False
    if "to_time_embed.1.weight" in names:
        return "image", None, True
    return ("image", None, False) if "to_time_embed.linear_in.weight" in names else None


def _foreign(shapes: Shapes) -> str:
    for patterns, title in _FOREIGN:
        if all(any(re.search(pattern, name) for name in shapes) for pattern in patterns):
            return _stable_diffusion(shapes) if title == "Stable Diffusion model" else title
    return "model of an unknown kind"


def _stable_diffusion(shapes: Shapes) -> str:
    """1.x and 2.x differ in the width of the text that they attend to."""
    widths = {shape[1] for name, shape in shapes.items() if name.endswith("attn2.to_k.weight") and len(shape) == 2}
    return (
        next(
            (_STABLE_DIFFUSION_VERSIONS[width] for width in widths if width in _STABLE_DIFFUSION_VERSIONS),
            "Stable Diffusion",
        )
        + " checkpoint"
    )
