"""The official models without their weights: `python -m benchmarks.rehearsal FOLDER [--scale S] [--version 1.0|1.1]`.

Random files of the official names, layout and types are written to FOLDER, Flan-UL2's encoder as sharded safetensors.
At scale 1 they are as large as the released ones (about 35 GB); a smaller scale divides their widths. The command line
then makes a video from them in each memory mode, and a line for each says how much memory and time that took.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from fusionframes_core.checkpoints.component import build
from fusionframes_core.checkpoints.convert import save_official_folder
from fusionframes_core.checkpoints.text_encoder_weights import TOKENIZER_FILE, read_tokenizer
from fusionframes_core.config import ModelConfig, MoVQConfig, UNetConfig
from fusionframes_core.models.text_encoder import TextEncoder
from fusionframes_core.presets import KANDINSKY_VIDEO_1_0, KANDINSKY_VIDEO_1_1
from fusionframes_core.settings import size_multiple

VERSIONS = {"1.0": KANDINSKY_VIDEO_1_0, "1.1": KANDINSKY_VIDEO_1_1}
TOKENIZER = Path(__file__).resolve().parents[1] / "fusionframes_core" / "tiny" / TOKENIZER_FILE  # Flan-UL2's: not ours
SHARD_BYTES = 5 * 10**9
BRANCH_SHARE = 0.05  # of the last layer: random weights of full strength would leave the range of 16 bits
MODES: tuple[tuple[str, str, str], ...] = (
    ("bf16", "none", "full"),
    ("bf16", "cpu", "full"),
    ("bf16", "disk", "full"),
    ("bf16", "disk", "layers"),
    ("fp8", "disk", "layers"),
)
"""--dtype, --offload and --text-mode, as in the table of docs/official-models.md."""
# What runs in each mode: the command line, and afterwards its memory on a GPU in bytes.
CHILD = (
    "import sys, torch; from fusionframes_core.__main__ import main; code = main(sys.argv[1:]);"
    "print('GPU', torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0); sys.exit(code)"
)


@dataclass(frozen=True)
class Run:
    """What one mode took: exit code, largest resident memory and GPU memory in bytes, seconds; and what it printed."""

    code: int
    memory: int
    gpu_memory: int
    seconds: float
    said: str


class RandomParts:
    """A model's components in 16 bits, as save_official_folder asks for them: each is made when it is, and let go."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config

    @property
    def text_encoder(self) -> TextEncoder:
        """A new one; its projection and null embeddings are in the U-Nets' files."""
        return TextEncoder(self.config.text, read_tokenizer(TOKENIZER), dtype=torch.bfloat16)

    def __getattr__(self, name: str) -> nn.Module | None:
        config = getattr(self.config, name)
        return None if config is None else calmed(build(config, dtype=torch.bfloat16))


@torch.no_grad()
def calmed(model: nn.Module) -> nn.Module:
    """Random weights whose output stays small, as a trained network's does."""
    last: Any = getattr(model, "out_layer", None)
    if last is not None:
        last[-1].weight.mul_(BRANCH_SHARE)
    return model


def scaled(config: ModelConfig, scale: float) -> ModelConfig:
    """The model with every width divided, in whole heads and groups; at scale 1 the model itself."""
    if scale == 1:
        return config
    text = config.text
    width, layers = near(text.d_model * scale, 64), max(1, round(text.num_layers * scale))
    small = replace(
        text,
        d_model=width,
        d_ff=near(text.d_ff * scale, 64),
        num_layers=layers,
        num_heads=max(1, round(text.num_heads * scale)),
        context_dim=width,
    )
    pixels = near(config.size[0] * scale, size_multiple(config))
    return replace(
        config,
        text=small,
        keyframe=scaled_unet(config.keyframe, scale, width),
        interpolation=replace(config.interpolation, trunk=scaled_unet(config.interpolation.trunk, scale, width)),
        movq=scaled_movq(config.movq, scale),
        image_movq=None if config.image_movq is None else scaled_movq(config.image_movq, scale),
        size=(pixels, pixels),
    )


def scaled_unet(config: UNetConfig, scale: float, context: int) -> UNetConfig:
    """A trunk of another width, whose context is as wide as the text's."""
    width = near(config.model_channels * scale, config.head_dim)
    return replace(config, model_channels=width, init_channels=width, time_embed_dim=4 * width, context_dim=context)


def scaled_movq(config: MoVQConfig, scale: float) -> MoVQConfig:
    """An autoencoder of another width."""
    return replace(config, channels=near(config.channels * scale, config.groups))


def near(value: float, multiple: int) -> int:
    """The nearest multiple, at least one."""
    return max(1, round(value / multiple)) * multiple


def write_files(config: ModelConfig, folder: Path) -> None:
    """The whole folder; an encoder that is there in one piece becomes shards."""
    parts: Any = RandomParts(config)
    save_official_folder(parts, folder)
    text = folder / "text_encoder"
    shard(text / "model.safetensors", SHARD_BYTES)


def shard(file: Path, most: int) -> None:
    """A safetensors file as shards of at most `most` bytes beside an index, as transformers writes them."""
    index: dict[str, str] = {}
    with safe_open(file, "pt") as stored:
        groups = list(grouped(stored, most))
        for number, names in enumerate(groups, 1):
            name = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
            save_file({key: stored.get_tensor(key) for key in names}, file.with_name(name), {"format": "pt"})
            index |= dict.fromkeys(names, name)
    described = {"metadata": {"total_size": file.stat().st_size}, "weight_map": index}
    file.with_name("model.safetensors.index.json").write_text(json.dumps(described, indent=2) + "\n", "utf-8")
    file.unlink()


def grouped(stored: Any, most: int) -> Iterator[list[str]]:
    """Names of tensors that are together at most `most` bytes; a larger tensor is alone."""
    group: list[str] = []
    size = 0
    for name in stored.keys():  # noqa: SIM118 (not a dict)
        tensor = stored.get_tensor(name)
        if group and size + tensor.nbytes > most:
            yield group
            group, size = [], 0
        group.append(name)
        size += tensor.nbytes
    yield group


def run_mode(folder: Path, mode: tuple[str, str, str], more: list[str]) -> Run:
    """Prompt to video by the command line in a process of its own."""
    dtype, offload, text = mode
    options = ["--dtype", dtype, "--offload", offload, "--text-mode", text, *more]
    words = ["generate", "--model", str(folder), "--prompt", "a large red circle moving right", *options]
    command = [sys.executable, "-c", CHILD, *words, "--out", str(folder / "rehearsal.mp4")]
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        assert child.stdout is not None
        said = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    gpu = next((int(line.split()[1]) for line in said.splitlines() if line.startswith("GPU ")), 0)
    unit = 1 if sys.platform == "darwin" else 1024
    return Run(child.returncode, usage.ru_maxrss * unit, gpu, time.perf_counter() - begun, said)


def row(mode: tuple[str, str, str], run: Run) -> str:
    """A line of the table, or what went wrong."""
    result = f"{run.memory / 1e9:.1f} GB | {run.gpu_memory / 1e9:.1f} GB | {run.seconds:.0f} s"
    failed = "" if run.code == 0 else f" failed: {' '.join(run.said.split())[-300:]}"
    return f"| {' | '.join(mode)} | {result} |{failed}"


def main() -> int:
    """Write, run, print; 1 when a mode failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="of every width, above 0 and at most 1 (default: 1)")
    parser.add_argument("--version", choices=VERSIONS, default="1.1")
    parser.add_argument("--steps", type=int, help="denoising steps of both stages (default: the model's own)")
    parser.add_argument("--frames", type=int, help="number of keyframes (default: the model's own)")
    arguments = parser.parse_args()
    if not 0 < arguments.scale <= 1:
        parser.error(f"scale must be above 0 and at most 1; got {arguments.scale}")
    config = scaled(VERSIONS[arguments.version], arguments.scale)
    write_files(config, arguments.folder)
    size = sum(file.stat().st_size for file in arguments.folder.rglob("*") if file.is_file())
    print(f"{arguments.version} at scale {arguments.scale:g}: {size / 1e9:.1f} GB in {arguments.folder}")
    steps = ["--steps", str(arguments.steps), "--interpolation-steps", str(arguments.steps)]
    more = [*(steps if arguments.steps else []), *(["--frames", str(arguments.frames)] if arguments.frames else [])]
    print("| dtype | offload | text-mode | memory | on the GPU | time |\n|---|---|---|---|---|---|", flush=True)
    failures = 0
    for mode in MODES:
        run = run_mode(arguments.folder, mode, more)
        failures += run.code != 0
        print(row(mode, run), flush=True)
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
