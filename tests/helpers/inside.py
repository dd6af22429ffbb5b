"""For scripts that tests run in ComfyUI's interpreter: the pack inside a ComfyUI without a server, and counted memory.

They are run with this folder and ComfyUI's on PYTHONPATH. `start` comes before anything imports torch.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import weakref
from collections.abc import Callable
from typing import Any


def start(folder: str) -> Callable[[str], Any]:
    """Start ComfyUI on the CPU and load the pack from its folder as it does; a function that imports its modules."""
    sys.argv[1:] = ["--cpu", "--use-pytorch-cross-attention"]  # core's attention is torch's
    importlib.import_module("comfy.options").enable_args_parsing()
    importlib.import_module("nodes")
    name = folder.replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, folder + "/__init__.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda part: importlib.import_module(f"{name}.{part}")


def counter() -> Any:
    """A context that counts the most bytes that tensors made inside it hold at once, `most`; meta tensors too."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    def storage(tensor: torch.Tensor) -> int:
        return tensor.untyped_storage()._cdata

    class Held(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.now = self.most = 0
            self.known: set[int] = set()

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = function(*args, **(kwargs or {}))
            old = {storage(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
            for leaf in tree_leaves(made):
                if isinstance(leaf, torch.Tensor) and (key := storage(leaf)) not in self.known | old:
                    self.add(key, leaf.untyped_storage())
            return made

        def add(self, key: int, kept: Any) -> None:
            """Count a storage until it is gone."""
            size = kept.nbytes()
            self.known.add(key)
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(kept, self.drop, key, size)

        def drop(self, key: int, size: int) -> None:
            self.known.discard(key)
            self.now -= size

    return Held()
