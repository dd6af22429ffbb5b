"""comfy_api.latest: extensions, node replacements and videos; its `io` is beside this file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from . import io as io


class ComfyExtension(ABC):
    """What a pack's entry point gives to ComfyUI."""

    @abstractmethod
    async def get_node_list(self) -> list[type[io.ComfyNode]]: ...


class NodeReplacement:
    """Nodes that take the place of others in old workflows; here they are only kept."""

    def __init__(self) -> None:
        self.registered: list[io.NodeReplace] = []

    async def register(self, node_replace: io.NodeReplace) -> None:
        self.registered.append(node_replace)


class ComfyAPI:
    node_replacement = NodeReplacement()


class Types:
    @dataclass(frozen=True)
    class VideoComponents:
        images: Any
        frame_rate: Fraction
        audio: Any | None = None


class InputImpl:
    class VideoFromFile:
        def __init__(self, file: Any, *, start_time: float = 0, duration: float = 0) -> None: ...
        def get_components(self) -> Any: ...

    @dataclass(frozen=True)
    class VideoFromComponents:
        components: Types.VideoComponents
