"""comfy_api.latest.io: node schemas. All but ids is given by name, so that nothing depends on ComfyUI's order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypedDict


class Input:
    """An input of a node. `id` is what workflows store, `display_name` what people read."""

    def __init__(
        self,
        id: str,
        *,
        display_name: str | None = None,
        optional: bool = False,
        tooltip: str | None = None,
        lazy: bool | None = None,
    ) -> None:
        self.id, self.display_name, self.optional, self.tooltip, self.lazy = id, display_name, optional, tooltip, lazy


class WidgetInput(Input):
    """An input with a value of its own."""

    def __init__(
        self,
        id: str,
        *,
        default: Any = None,
        display_name: str | None = None,
        optional: bool = False,
        tooltip: str | None = None,
    ) -> None:
        super().__init__(id, display_name=display_name, optional=optional, tooltip=tooltip)
        self.default = default


class Output:
    """An output of a node."""

    def __init__(self, *, display_name: str | None = None, tooltip: str | None = None) -> None:
        self.display_name, self.tooltip = display_name, tooltip


# By other names inside the classes below, each of which has an Input of its own.
_Input: TypeAlias = Input
_Output: TypeAlias = Output


class Socket:
    """A type of values that only links carry."""

    class Input(_Input): ...

    class Output(_Output): ...


class Model(Socket): ...


class Clip(Socket): ...


class Vae(Socket): ...


class Conditioning(Socket): ...


class Latent(Socket): ...


class Image(Socket): ...


class Audio(Socket): ...


class Video(Socket): ...


class Noise(Socket): ...


class Guider(Socket): ...


class Sampler(Socket): ...


class Sigmas(Socket): ...


class Boolean:
    class Input(WidgetInput):
        def __init__(self, id: str, *, default: bool, **shared: Any) -> None:
            super().__init__(id, default=default, **shared)


class Int:
    class Input(WidgetInput):
        def __init__(
            self,
            id: str,
            *,
            default: int,
            min: int,
            max: int,
            step: int = 1,
            control_after_generate: bool | None = None,
            **shared: Any,
        ) -> None:
            super().__init__(id, default=default, **shared)
            self.min, self.max, self.step, self.control_after_generate = min, max, step, control_after_generate


class Float:
    class Input(WidgetInput):
        def __init__(
            self,
            id: str,
            *,
            default: float,
            min: float,
            max: float,
            step: float,
            round: float | None = None,
            **shared: Any,
        ) -> None:
            super().__init__(id, default=default, **shared)
            self.min, self.max, self.step, self.round = min, max, step, round


class String:
    class Input(WidgetInput):
        def __init__(
            self,
            id: str,
            *,
            default: str,
            multiline: bool = False,
            dynamic_prompts: bool | None = None,
            **shared: Any,
        ) -> None:
            super().__init__(id, default=default, **shared)
            self.multiline, self.dynamic_prompts = multiline, dynamic_prompts


class Combo:
    class Input(WidgetInput):
        def __init__(self, id: str, *, options: list[str], default: str | None = None, **shared: Any) -> None:
            super().__init__(id, default=default, **shared)
            self.options = options


@dataclass
class Schema:
    """What ComfyUI and people know of a node."""

    node_id: str
    display_name: str
    category: str
    description: str
    search_aliases: list[str]
    inputs: Sequence[_Input]
    outputs: Sequence[_Output]
    is_output_node: bool = False


class ComfyNode:
    """Base of all nodes. ComfyUI finds `execute`, `validate_inputs` and others by name, whatever they take."""

    @classmethod
    def define_schema(cls) -> Schema:
        raise NotImplementedError


class NodeOutput:
    """The values of a node's outputs, in order."""

    def __init__(self, *args: Any, ui: dict[str, Any] | None = None) -> None:
        self.args, self.ui = args, ui


class InputMap(TypedDict):
    new_id: str
    old_id: str


class OutputMap(TypedDict):
    new_idx: int
    old_idx: int


@dataclass
class NodeReplace:
    """Which node takes the place of an old one, and where its inputs and outputs went."""

    new_node_id: str
    old_node_id: str
    old_widget_ids: list[str] = field(default_factory=list)
    input_mapping: list[InputMap] = field(default_factory=list)
    output_mapping: list[OutputMap] = field(default_factory=list)
