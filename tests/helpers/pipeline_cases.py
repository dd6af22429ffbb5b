"""Cases of whole official pipelines: what they were asked, how their weights and noise are drawn, what they made.

A case is a safetensors file in tests/parity/pipelines (see the README there), with its networks in a JSON file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from fusionframes_core.checkpoints.convert import write_tensors
from fusionframes_core.sampling.noise import NoiseSource, stage_noise
from tests.helpers import exact_draws

FOLDER = Path(__file__).resolve().parents[1] / "parity" / "pipelines"
PADDING, END, UNKNOWN = "<pad>", "</s>", "<unk>"
NoiseOf = Callable[[str], NoiseSource]


@dataclass(frozen=True)
class Networks:
    """The small networks of a version: the official constructors' arguments, and every tensor of the official files."""

    version: str
    arguments: dict[str, dict[str, Any]]
    files: dict[str, dict[str, list[int]]]  # file → official name → shape
    gains: dict[str, float]  # a pattern of `file/name` → what weights that match are multiplied by
    words: list[str]  # of the tokenizer
    configs: dict[str, Any]  # configs.json beside the files

    def tensors(self, file: str) -> dict[str, Tensor]:
        """A file's weights, drawn."""
        return {name: self._tensor(f"{file}/{name}", tuple(shape)) for name, shape in self.files[file].items()}

    def _tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        if name.endswith("null_embedding"):
            return exact_draws.normal(name, shape)
        gain = 1.0
        for pattern, factor in self.gains.items():
            gain *= factor if re.search(pattern, name) else 1.0
        return exact_draws.weight(name, shape, gain)


@dataclass(frozen=True)
class PipelineCase:
    """One call of an official pipeline and what came of it.

    `call` are the official arguments, but for an image, which `image` describes; `noise` is "exact" or "seed N".
    """

    name: str
    networks: Networks
    call: dict[str, Any]
    image: dict[str, Any] | None
    noise: str
    outputs: dict[str, Tensor]

    @property
    def version(self) -> str:
        """Of the official code."""
        return self.networks.version

    @property
    def is_seeded(self) -> bool:
        """Whether the noise is that of a seed of ours, which torch draws."""
        return self.noise.startswith("seed ")

    @property
    def picture(self) -> np.ndarray | None:
        """The first image, uint8 (height, width, 3 or 4)."""
        if self.image is None:
            return None
        return exact_draws.picture(f"{self.name}/image", tuple(self.image["size"]), len(self.image["mode"]))

    def noise_of(self, stage: str) -> NoiseSource:
        """The draws of a stage in our layout, (1, C, T, h, w)."""
        if self.is_seeded:
            return stage_noise(int(self.noise.removeprefix("seed ")), stage, 1, "cpu")
        count = 0

        def draw(shape: tuple[int, ...]) -> Tensor:
            nonlocal count
            count += 1
            return exact_draws.normal(f"{self.name}/{stage}/{count}", tuple(shape))

        return draw


def read_networks(path: Path) -> Networks:
    return Networks(**json.loads(path.read_text("utf-8")))


def read_case(path: Path, networks_in: Path | None = None) -> PipelineCase:
    """A case, whose networks are described beside it or in another folder."""
    with safe_open(path, "pt") as file:
        outputs = {name.removeprefix("out/"): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = json.loads(file.metadata()["config"])
    networks = read_networks((networks_in or path.parent) / f"{config['networks']}.json")
    return PipelineCase(path.stem, networks, config["call"], config.get("image"), config["noise"], outputs)


def write_official_files(networks: Networks, folder: Path) -> None:
    """The files as they would be downloaded: weights, configs.json, and a T5 with its tokenizer."""
    for file in networks.files:
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        tensors = networks.tensors(file)
        if target.suffix == ".pt":
            write_tensors(tensors, target, {})
        else:
            save_file(tensors, target, {"format": "pt"})
    (folder / "configs.json").write_text(json.dumps(networks.configs), "utf-8")
    (folder / "text_encoder" / "config.json").write_text(json.dumps(networks.arguments["t5"]), "utf-8")
    tokenizer_of(networks).save(str(folder / "text_encoder" / "tokenizer.json"))


def tokenizer_of(networks: Networks) -> Any:
    """A T5-like tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {token: index for index, token in enumerate((PADDING, END, UNKNOWN, *networks.words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(f"$A {END}", special_tokens=[(END, vocabulary[END])])
    tokenizer.add_special_tokens([PADDING, END, UNKNOWN])
    return tokenizer


def in_our_layout(frames: Tensor) -> Tensor:
    """Official (T, C, h, w) to (1, C, T, h, w)."""
    return frames.transpose(0, 1)[None]


CASES = [read_case(path) for path in sorted(FOLDER.glob("*.safetensors"))]
