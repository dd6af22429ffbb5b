"""What a weights file is, told from the names (and a few shapes) of its tensors."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..errors import CheckpointError
from .component import KINDS, ComponentKind
from .model_search import find_models, names_behind, preferred, recognise
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
    note: str = ""  # which of several models in a file this is

    @property
    def is_known(self) -> bool:
        """Whether it can be said what the file is, ours or not."""
        return self.title != _UNKNOWN

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


_UNKNOWN = "model of an unknown kind"
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


def identify_file(file: WeightsFile) -> CheckpointInfo:
    """`identify` of a file, with a warning where it holds several models and one of them is taken."""
    info = identify(file.shapes)
    if info.note:
        warnings.warn(f"{file.path}: {info.note}", stacklevel=2)
    return info


def identify(shapes: Shapes) -> CheckpointInfo:
    """Tell the model whose tensors have these names and shapes.

    Anything may stand before every name of it, such as what ComfyUI's saving nodes, torch.compile or a training
    program's dictionaries put there. Of several models of a kind the one with averaged weights is taken.
    """
    found = find_models(shapes)
    prefix = preferred(found)
    model = set() if prefix is None else names_behind(prefix, shapes)
    known = recognise(model)
    if prefix is None or known is None or (prefix and known[0] == "t5" and _foreign(shapes) != _UNKNOWN):
        title = f"file of several models ({_places(found)})" if len(found) > 1 else _foreign(shapes)
        return CheckpointInfo(None, None, False, title, {name: name for name in shapes})
    kind, version, official = known
    if kind == "t5":
        # A whole T5 has a decoder too, and a second name for the embedding.
        model = {name for name in model if name.startswith(("shared.", "encoder.")) and ".embed_tokens." not in name}
    rules = TEXT_RULES.get((kind, version or ""), ()) if official else ()
    text = _text_names(shapes, prefix, rules)
    names = {_own_name(name, known): prefix + name for name in model if prefix + name not in text.values()}
    if kind == "projections":
        names = {}
    title = f"KandinskyVideo {version} {TITLES[kind]}" if version and kind != "t5" else TITLES[kind]
    others = [other for other in found if other != prefix and found[other] == kind]
    note = f"the averaged weights, {_places([prefix])}, are taken, and not {_places(others)}" if others else ""
    return CheckpointInfo(kind, version, official, title, names, text, note)


def _places(prefixes: Iterable[str]) -> str:
    return ", ".join(f"{prefix}*" if prefix else "names without a prefix" for prefix in prefixes)


def _text_names(shapes: Shapes, prefix: str, rules: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Our names of text parts → the file's; they stand beside the U-Net, or where a wrapper has put both."""
    found: dict[str, str] = {}
    for beginning in (prefix, prefix.removesuffix(UNET_PREFIX), ""):
        for name in shapes:
            ours = _text_name(name.removeprefix(beginning), rules) if name.startswith(beginning) else None
            if ours is not None:
                found[ours] = name
    return found


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


def _foreign(shapes: Shapes) -> str:
    for patterns, title in _FOREIGN:
        if all(any(re.search(pattern, name) for name in shapes) for pattern in patterns):
            return _stable_diffusion(shapes) if title == "Stable Diffusion model" else title
    return _UNKNOWN


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
