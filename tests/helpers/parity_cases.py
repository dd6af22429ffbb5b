"""The golden cases: files of official weights, inputs and outputs, told apart by what they hold."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from fusionframes_core.checkpoints.architecture import Hints, interpolation_config, movq_config, unet_config
from fusionframes_core.checkpoints.checkpoint_info import identify
from fusionframes_core.models.movq.movq import MoVQ
from fusionframes_core.models.unet.interpolation_unet import InterpolationUNet
from fusionframes_core.models.unet.unet import UNet

PARITY = Path(__file__).resolve().parents[1] / "parity"
FOLDER = Path(os.environ.get("FUSIONFRAMES_GOLDEN") or PARITY / "golden")
MORE = PARITY / "more"  # made by make_case.py from the official code
FILES = [*sorted(FOLDER.glob("*.safetensors")), *sorted(MORE.glob("*.safetensors"))]
MANIFESTS = sorted(FOLDER.glob("manifest_*.json"))


@dataclass(frozen=True)
class Case:
    """One file: the official constructor's or sampler's arguments, the official weights, inputs and outputs."""

    name: str
    config: dict[str, Any]
    weights: dict[str, Tensor]
    tensors: dict[str, Tensor]

    @property
    def kind(self) -> str:
        """Which test the case belongs to."""
        if "weights_in" in self.config:
            return "interpolation sampling" if "in/keyframes" in self.tensors else "keyframe sampling"
        outputs = {"out/v": "interpolation", "out/noise": "keyframe", "out/pixels": "movq", "out/context": "text"}
        return next(kind for output, kind in outputs.items() if output in self.tensors)

    @property
    def version(self) -> str:
        """Of the official code: kv10 or kv11 begins the file's name."""
        return {"kv10": "1.0", "kv11": "1.1"}[self.name.partition("_")[0]]

    def video(self, name: str) -> Tensor:
        """An official tensor, frames first, as (1, C, T, H, W)."""
        return as_video(self.tensors[name])


def read_case(path: Path) -> Case:
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        config = json.loads(file.metadata()["config"])
    weights = {key.removeprefix("weights/"): value for key, value in tensors.items() if key.startswith("weights/")}
    return Case(path.stem, config, weights, tensors)


CASES = [read_case(path) for path in FILES]


def cases(kind: str) -> list[Any]:
    """The cases of a kind; there must be some, or the folder is not what it should be."""
    found = [case for case in CASES if case.kind == kind]
    assert found, f"no case of the kind {kind} in {FOLDER}"
    return found


def official_model(case: Case) -> Any:
    """The case's model with its official weights: architecture and names as the conversion reads them."""
    identity = identify({name: tuple(value.shape) for name, value in case.weights.items()})
    shapes = {ours: tuple(case.weights[theirs].shape) for ours, theirs in identity.names.items()}
    hints = Hints(**{name: case.config[name] for name in ("head_dim", "groups") if name in case.config})
    if identity.kind == "movq":
        model: Any = MoVQ(movq_config(shapes, case.version, hints))
    elif identity.kind == "interpolation":
        assert identity.version == case.version
        model = InterpolationUNet(interpolation_config(shapes, identity.version, hints))
    else:
        assert (identity.kind, identity.version) == ("keyframe", case.version)
        model = UNet(unet_config(shapes, identity.version, hints))
    model.load_state_dict({ours: case.weights[theirs] for ours, theirs in identity.names.items()}, strict=True)
    return model.eval().requires_grad_(False)


def as_video(frames: Tensor) -> Tensor:
    """Official (T, C, h, w) to (1, C, T, h, w)."""
    return frames.transpose(0, 1)[None]


def relative_error(ours: Tensor, official: Tensor) -> float:
    """The largest difference, of the official maximum."""
    assert ours.shape == official.shape
    assert torch.isfinite(official).all()
    return ((ours - official).abs().max() / official.abs().max()).item()


def assert_agrees(ours: Tensor, official: Tensor, tolerance: float) -> None:
    error = relative_error(ours, official)
    print(f"relative error {error:.2e}")
    assert error <= tolerance
