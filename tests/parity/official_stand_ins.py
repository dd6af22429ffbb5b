"""Stand-ins for what the official packages import and the cases do not use, where it is not installed."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor


def put_stand_ins(version: str) -> None:
    """Into `sys.modules`. Raises ImportError where diffusers is missing, which 1.1's code does use.

    What is installed and looks for torchvision itself is imported first: it must not find the stand-in.
    """
    from transformers import CLIPImageProcessor, CLIPModel, T5EncoderModel, T5Model  # noqa: F401 (see below)

    if version == "1.1":
        _ = importlib.import_module("diffusers").DDPMScheduler

    if importlib.util.find_spec("pandas") is None:
        sys.modules["pandas"] = types.ModuleType("pandas")
    if importlib.util.find_spec("torchvision") is None:
        put_torchvision()


def put_torchvision() -> None:
    """The four transforms that the official pipelines use."""
    package, transforms = (types.ModuleType(name) for name in ("torchvision", "torchvision.transforms"))
    transforms.__dict__.update(ToPILImage=ToPIL, ToTensor=ToTensor, Lambda=Lambda, Compose=Compose, __path__=[])
    package.__dict__["transforms"] = transforms
    unused = types.ModuleType("torchvision.transforms.functional")
    transforms.__dict__["functional"] = unused
    sys.modules |= {module.__name__: module for module in (package, transforms, unused)}


class ToPIL:
    """torchvision's for a float (3, H, W): cut off to 8 bits."""

    def __call__(self, pixels: Tensor) -> Any:
        return PIL.Image.fromarray((pixels.permute(1, 2, 0).numpy() * 255).astype(np.uint8))


class ToTensor:
    """torchvision's: (3, H, W) in [0, 1]."""

    def __call__(self, image: Any) -> Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(255)


class Lambda:
    """torchvision's."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, value: Any) -> Any:
        return self.function(value)


class Compose:
    """torchvision's."""

    def __init__(self, functions: Any) -> None:
        self.functions = functions

    def __call__(self, value: Any) -> Any:
        for function in self.functions:
            value = function(value)
        return value
