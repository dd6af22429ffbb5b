"""The official models without their weights: `python -m benchmarks.rehearsal FOLDER [--scale S] [--version 1.0|1.1]`.

Random files of the official names, layout and types are written to FOLDER, Flan-UL2's encoder as sharded safetensors.
At scale 1 they are as large as the released ones (about 35 GB); a smaller scale divides their widths. The command line
then makes a video from them in each memory mode, and ComfyUI (COMFYUI_PATH, COMFYUI_PYTHON) one from each workflow of
that version. A line for each run says how much memory and time it took, and one for each stage of it the same.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from benchmarks.rehearsal_comfyui import comfyui_at, run_workflows
from benchmarks.rehearsal_files import VERSIONS, link_for_comfyui, scaled, write_files
from benchmarks.rehearsal_runs import BITSANDBYTES, MODES, Run, Short, run_mode
from fusionframes_core.cli.arguments import parse_size
from fusionframes_core.config import ModelConfig

HEADER = "| {} | memory | on the GPU | time |\n|---|---|---|---|"


def row(name: str, run: Run) -> str:
    """A line of the table and one for each stage, or what went wrong."""
    gpu = "" if run.gpu_memory is None else f"{run.gpu_memory / 1e9:.1f} GB"
    lines = [f"| {name} | {run.memory / 1e9:.1f} GB | {gpu} | {run.seconds:.0f} s |"]
    lines += [f"| … {stage.name} | {stage.memory / 1e9:.1f} GB | | {stage.seconds:.0f} s |" for stage in run.stages]
    if not run.succeeded:
        lines[0] += f" failed: {' '.join(run.said.split())[-300:]}"
    return "\n".join(lines)


def parse_modes(text: str) -> list[tuple[str, str, str]]:
    """ "bf16/disk/layers,fp8/disk/layers" → those of MODES."""
    known = {"/".join(mode): mode for mode in MODES}
    names = text.split(",")
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"modes must be of {', '.join(known)}; got {name!r}")
    return [known[name] for name in names]


def make_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="of every width, above 0 and at most 1 (default: 1)")
    parser.add_argument("--version", choices=VERSIONS, default="1.1")
    parser.add_argument("--steps", type=int, help="denoising steps of both stages (default: the model's own)")
    parser.add_argument("--frames", type=int, help="number of keyframes (default: the model's own)")
    parser.add_argument("--size", type=parse_size, help="HEIGHTxWIDTH of the video (default: the model's own, scaled)")
    parser.add_argument(
        "--modes", type=parse_modes, default=list(MODES), help="dtype/offload/text-mode, with commas (default: all)"
    )
    parser.add_argument("--written", action="store_true", help="FOLDER holds the files already, of this scale")
    return parser


def short_of(arguments: argparse.Namespace, config: ModelConfig) -> Short:
    """What is made shorter; files say no size, so that of a scaled model is always said."""
    return Short(arguments.size or config.size, arguments.steps, arguments.frames)


def main() -> int:
    """Write, run, print; 1 when a run failed."""
    parser = make_parser()
    arguments = parser.parse_args()
    folder, version = arguments.folder.resolve(), arguments.version
    if not 0 < arguments.scale <= 1:
        parser.error(f"scale must be above 0 and at most 1; got {arguments.scale}")
    config = scaled(VERSIONS[version], arguments.scale)
    short = short_of(arguments, config)
    if not arguments.written:
        write_files(config, folder)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.suffix in (".pt", ".safetensors"))
    print(f"{version} at scale {arguments.scale:g}: {size / 1e9:.1f} GB in {folder}; {short.phrase}")
    print(HEADER.format("--dtype, --offload, --text-mode"), flush=True)
    succeeded = True
    for mode in arguments.modes:
        if mode[2] in BITSANDBYTES and importlib.util.find_spec("bitsandbytes") is None:
            print(f"| {' '.join(mode)} | left out: bitsandbytes is not installed |")
            continue
        run = run_mode(folder, mode, short)
        succeeded &= run.succeeded
        print(row(" ".join(mode), run), flush=True)
    comfyui = comfyui_at()
    if comfyui is None:
        print("ComfyUI was left out: COMFYUI_PATH and COMFYUI_PYTHON name none")
        return int(not succeeded)
    models = folder.with_name(folder.name + "-comfyui")
    link_for_comfyui(folder, version, models)
    print(HEADER.format("workflow in ComfyUI"), flush=True)
    for name, run in run_workflows(comfyui, models, version, short):
        succeeded &= run.succeeded
        print(row(name, run), flush=True)
    return int(not succeeded)


if __name__ == "__main__":
    sys.exit(main())
