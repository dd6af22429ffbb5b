"""The components of a model: one table that says all there is to say of each kind, and a component on the disk.

A component is a network of its own: the text encoder, the keyframe U-Net, the interpolation U-Net, the autoencoder.
Whatever asks what a file is, how it is named in an official folder or which class it becomes reads it from `KINDS`;
another component is another entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from ..config import InterpolationConfig, ModelConfig, MoVQConfig, TextEncoderConfig, UNetConfig
from ..errors import CheckpointError, one_sentence
from ..models.casting import FP8, operations_for
from ..models.layers import TorchOperations
from ..models.layout import channels_last
from ..models.movq.movq import MoVQ
from ..models.text_encoder import TextEncoder
from ..models.unet.interpolation_unet import InterpolationUNet
from ..models.unet.unet import UNet
from .architecture import interpolation_config, movq_config, unet_config
from .state_dict import Sources, load_sources, named_files
from .text_encoder_weights import FULL_TEXT, TextOptions, load_text_encoder
from .weights_file import WeightsFile

Dtype: TypeAlias = torch.dtype
Device: TypeAlias = torch.device | str


@dataclass(frozen=True)
class ComponentKind:
    """What is known of a kind of component before a file is opened."""

    name: str  # of the component in a model folder: its file is <name>.safetensors
    title: str  # for people
    config_field: str  # of ModelConfig
    config_class: type
    network: Callable[..., Any]
    load: Callable[[Component, Dtype, Device, Any], nn.Module]
    component: str = ""  # which component of a model such a file is; "": the one of its name
    file_kind: str = ""  # what `checkpoint_info.identify` calls its file; "": the name
    read_architecture: Callable[..., Any] | None = None  # (shapes under our names, version, hints) → configuration
    official_stems: Mapping[str, str] = field(default_factory=dict)  # version of KandinskyVideo → its file's name
    official_prefix: str = ""  # of the network's own names in an official file
    configs_section: str = ""  # of an official folder's configs.json
    shown_fields: tuple[str, ...] = ()  # of the configuration: those that tell models apart
    null_embeddings: tuple[str, ...] = ()  # the text encoder's tensor that is its unconditional context, by preference
    stored_dtypes: Mapping[Dtype, Dtype] = field(default_factory=dict)  # asked for → kept in, where they differ
    is_unet: bool = False  # U-Nets take LoRA, and differ between the versions of KandinskyVideo
    in_every_model: bool = True

    @property
    def file_name(self) -> str:
        """The file's name in a model folder of ours."""
        return f"{self.name}.safetensors"

    def kept_dtype(self, dtype: Dtype) -> Dtype:
        """The type that the weights are kept in when the model is asked for in `dtype`."""
        return self.stored_dtypes.get(dtype, dtype)


class Addition(Protocol):
    """A file whose weights are added to a network when it has been loaded, such as a LoRA."""

    @property
    def file(self) -> WeightsFile: ...

    def add_to(self, network: nn.Module, /) -> None: ...


@dataclass(frozen=True)
class Component:
    """A component on the disk: where its tensors lie and what network they make. Nothing is loaded yet."""

    kind: ComponentKind
    model: ModelConfig  # of the whole model that it belongs to
    sources: Sources
    folder: Path
    text: Sources = ()  # U-Nets: files with the text encoder's null embeddings
    tokenizer: Path | None = None  # the text encoder's
    text_options: TextOptions = FULL_TEXT
    additions: tuple[Addition, ...] = ()

    @property
    def config(self) -> Any:
        """The network's own configuration."""
        return getattr(self.model, self.kind.config_field)

    def with_config(self, config: Any) -> Component:
        """The same files for another configuration of the network."""
        return replace(self, model=replace(self.model, **{self.kind.config_field: config}))

    def load(self, dtype: Dtype = torch.float32, device: Device = "cpu", operations: Any = None) -> Any:
        """The network with its weights, in evaluation mode, its layers made from `operations` (see `models.layers`).

        Raises CheckpointError when a file does not fit.
        """
        kept = self.kind.kept_dtype(dtype)
        with one_sentence(f"{named_files(self.sources)} cannot be loaded with the configuration of {self.model.name}"):
            network = self.kind.load(self, kept, device, operations or operations_for(kept))
        for addition in self.additions:
            addition.add_to(network)
        return channels_last(network) if torch.device(device).type == "cuda" else network

    def null_embedding(self) -> Tensor:
        """A U-Net's unconditional context (D,), float32. Raises CheckpointError when no file holds it."""
        for name in self.kind.null_embeddings:
            for file, names in self.text:
                if name in names:
                    return next(iter(file.tensors([names[name]]).values())).float().flatten().clone()
        raise CheckpointError(
            f"no null embedding in {self.folder}: the U-Net's own file, or text_encoder.safetensors, has it"
        )


@dataclass(frozen=True)
class ModelParts:
    """The loaded components of a model, in evaluation mode, and its configuration."""

    config: ModelConfig
    text_encoder: TextEncoder
    keyframe: UNet
    interpolation: InterpolationUNet
    movq: MoVQ
    image_movq: MoVQ | None = None  # 1.1: of the first image; None: the video's


@dataclass(frozen=True)
class StoredModel:
    """A whole model on the disk, of ours or of official files: its configuration and its components by name."""

    config: ModelConfig
    components: Mapping[str, Component]

    def load(self, dtype: Dtype = torch.float32, device: Device = "cpu") -> ModelParts:
        """Every component with its weights. Raises CheckpointError that names the file that does not fit."""
        return ModelParts(self.config, **{name: part.load(dtype, device) for name, part in self.components.items()})

    def with_component(self, component: Component) -> StoredModel:
        """The same model with another component in the place of the one of its name."""
        others = {name: replace(other, model=component.model) for name, other in self.components.items()}
        return StoredModel(component.model, {**others, component.kind.name: component})


def build(config: Any, device: Device | None = None, dtype: Dtype | None = None, operations: Any = None) -> Any:
    """The network that `config` describes, with memory but no weights (device "meta": not even memory)."""
    network = next(kind.network for kind in KINDS.values() if kind.config_class is type(config))
    return network(config, operations=operations or TorchOperations, device=device, dtype=dtype)


def _load_network(component: Component, dtype: Dtype, device: Device, operations: Any) -> nn.Module:
    network = build(component.config, device="meta", operations=operations)
    load_sources(network, component.sources, device, dtype)
    return network.eval().requires_grad_(False)


def _load_text_encoder(component: Component, dtype: Dtype, device: Device, operations: Any) -> nn.Module:
    """T5 is transformers' own and takes no other layers."""
    assert component.tokenizer is not None
    return load_text_encoder(
        component.config, component.tokenizer, component.sources, device, dtype, component.text_options
    )


_TEXT_ENCODER = ComponentKind(
    name="text_encoder",
    title="text encoder",
    config_field="text",
    config_class=TextEncoderConfig,
    network=TextEncoder,
    load=_load_text_encoder,
    # T5 overflows in fp16, and bf16 takes the same memory; in 8 bits only the U-Nets are worth it.
    stored_dtypes={torch.float16: torch.bfloat16, FP8: torch.bfloat16},
)
_KEYFRAME = ComponentKind(
    name="keyframe",
    title="keyframe U-Net",
    config_field="keyframe",
    config_class=UNetConfig,
    network=UNet,
    load=_load_network,
    read_architecture=unet_config,
    official_stems={"1.0": "kandinsky_video", "1.1": "t2v"},
    official_prefix="unet.",
    configs_section="t2v",
    shown_fields=("model_channels", "channel_mult", "num_blocks", "context_dim", "in_channels", "temporal"),
    null_embeddings=("null_embedding",),
    is_unet=True,
)
_IMAGE = replace(
    _KEYFRAME,
    name="image",
    title="text-to-image U-Net",
    component="keyframe",
    official_stems={},
    shown_fields=_KEYFRAME.shown_fields[:-1],
    in_every_model=False,
)
_INTERPOLATION = replace(
    _KEYFRAME,
    name="interpolation",
    title="interpolation U-Net",
    config_field="interpolation",
    config_class=InterpolationConfig,
    network=InterpolationUNet,
    read_architecture=interpolation_config,
    official_stems={"1.0": "kandinsky_video_interpolation", "1.1": "interpolation"},
    configs_section="interpolation",
    shown_fields=("temporal_attention", "fixed_perturbation", "text_pooling"),
    null_embeddings=("interpolation.null_embedding", "null_embedding"),
)
_MOVQ = ComponentKind(
    name="movq",
    title="MoVQ autoencoder",
    config_field="movq",
    config_class=MoVQConfig,
    network=MoVQ,
    load=_load_network,
    read_architecture=movq_config,
    official_stems={"1.0": "movq", "1.1": "video_movq"},
    shown_fields=("channels", "channel_mult", "num_res_blocks", "decoder", "patch_size"),
    stored_dtypes={FP8: torch.bfloat16},
)
_IMAGE_MOVQ = replace(
    _MOVQ,
    name="image_movq",
    config_field="image_movq",
    file_kind="movq",
    official_stems={"1.1": "movq"},
    in_every_model=False,
)

KINDS: dict[str, ComponentKind] = {
    kind.name: kind for kind in (_TEXT_ENCODER, _KEYFRAME, _IMAGE, _INTERPOLATION, _MOVQ, _IMAGE_MOVQ)
}
"""Every kind of component by its name, in the order of the pipeline. `image` is a file that stands for the keyframe
U-Net; `image_movq` is 1.1's autoencoder of the first image, a file of the same kind as any MoVQ's."""

COMPONENTS = tuple(name for name, kind in KINDS.items() if kind.in_every_model)
UNETS = tuple(name for name in COMPONENTS if KINDS[name].is_unet)


def component_names(config: ModelConfig) -> tuple[str, ...]:
    """The components of a model: those that every model has, and the image autoencoder where the config has one."""
    return COMPONENTS if config.image_movq is None else (*COMPONENTS, _IMAGE_MOVQ.name)


def kind_of_file(file_kind: str | None) -> ComponentKind | None:
    """The kind of component that a file of `CheckpointInfo.kind` holds; None where it holds none."""
    return KINDS.get(file_kind or "")


def kinds_of_network(network: nn.Module) -> list[ComponentKind]:
    """The kinds of component that a network of this class can be; empty for a class that no model has."""
    return [kind for kind in KINDS.values() if kind.network is type(network) and not kind.file_kind]
