"""Videos and captions to what training reads: `python -m training.prepare folder VIDEOS --out DIR` and other layouts.

Every video is probed, split into shots, resized and encoded once, in several processes; a stopped run goes on with the
same command. Videos that cannot be used are listed in DIR/report.json and skipped. `speed DIR` measures how fast the
result is read; `merge DIR` makes one of what `--part K/N` prepared in several jobs. The same command again encodes what
is new or changed in the data set, and nothing else. Exit codes: 0 done; 2 bad input, one sentence on stderr; 130
interrupted.
"""

from __future__ import annotations

import argparse
import collections
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fusionframes_core.checkpoints.open_model import open_model
from fusionframes_core.files import home_path
from fusionframes_core.settings import size_multiple, spatial_factor
from fusionframes_core.value_checks import check_size

from .data.data_parts import merge, parse_part
from .data.data_report import REPORT
from .data.items import DataSet
from .data.layouts import MSRVTT, SPLITS, UCF101, Folder, Vimeo90k
from .data.prepared_clips import PreparedClips, measure_speed
from .data.preparing import prepare
from .data.recipe import KEEP, Recipe
from .data.streams import MovingShapes, WebDataset
from .engine.command_line import check_device, exit_code

SHOWN = 10
OPTIONS = ("fps", "max_frames", "threshold", "model", "device", "allow_slow")


def folder(arguments: argparse.Namespace) -> DataSet:
    """Videos with captions in a CSV or JSONL file, or each in a .txt beside its video."""
    return Folder(arguments.root, arguments.captions, arguments.skip_missing)


def webdataset(arguments: argparse.Namespace) -> DataSet:
    """Tar shards, named as in `shards/{000..127}.tar` or `shards/*.tar`, or their folder."""
    return WebDataset(arguments.root)


def ucf101(arguments: argparse.Namespace) -> DataSet:
    """UCF-101: the folder that holds UCF-101/ and ucfTrainTestlist/."""
    return UCF101(arguments.root, arguments.split, arguments.fold)


def msrvtt(arguments: argparse.Namespace) -> DataSet:
    """MSR-VTT: a folder of videos, and the annotation JSON."""
    return MSRVTT(arguments.root, arguments.annotations, arguments.split, arguments.skip_missing)


def vimeo90k(arguments: argparse.Namespace) -> DataSet:
    """Vimeo-90k: the septuplet folder; without text."""
    return Vimeo90k(arguments.root, arguments.split)


def shapes(arguments: argparse.Namespace) -> DataSet:
    """Moving Shapes, drawn."""
    return MovingShapes(arguments.count, arguments.seed, arguments.held_out)


def run_prepare(arguments: argparse.Namespace) -> None:
    """Prepare one data set."""
    config = open_model(arguments.model).config
    size = tuple(arguments.size or config.size)
    buckets = tuple(getattr(arguments, "buckets", None) or ())
    if buckets and arguments.size:
        raise ValueError("--size and --buckets exclude each other: name every size as a bucket")
    # Latents go through a U-Net, pixels alone only through the autoencoder.
    multiple = size_multiple(config) if "latents" in arguments.keep else spatial_factor(config.movq)
    for wanted in buckets or (size,):
        check_size(wanted, multiple)
    check_device(arguments.device)
    least = arguments.min_frames if arguments.min_frames is not None else 7 if arguments.layout is vimeo90k else 33
    options = {name: getattr(arguments, name) for name in OPTIONS}
    recipe = Recipe((size[0], size[1]), tuple(arguments.keep), min_frames=least, buckets=buckets, **options)
    part = parse_part(arguments.part, os.environ) if arguments.part else None
    data = arguments.layout(arguments)
    report = prepare(data, arguments.out, recipe, arguments.chunk, arguments.workers, part, arguments.drop_removed)
    _tell(report, part.folder(arguments.out) if part else arguments.out)
    if not report["clips"] and not part:
        raise ValueError(f"{arguments.out} has no clip to train on: every video was skipped")
    if part:
        print(f"part {part}: when all are done, `python -m training.prepare merge {arguments.out}`")


def run_merge(arguments: argparse.Namespace) -> None:
    """Make the parts of one data set, all finished, one data set."""
    _tell(merge(arguments.root), arguments.root)


def _tell(report: dict[str, Any], out: Path) -> None:
    """Print what a report says."""
    print(f"{report['clips']} clips, {report['frames']} frames, from {report['videos']} videos in {out}")
    if report["rates"]:
        print("rates: " + ", ".join(f"{count} of {_with_unit(rate)}" for rate, count in report["rates"].items()))
    if report["skipped"]:
        kinds = collections.Counter(entry["why"].split(":")[0] for entry in report["skipped"])
        told = ", ".join(f"{count} {why}" for why, count in kinds.most_common(SHOWN))
        print(f"{len(report['skipped'])} videos skipped ({told}): see {out / REPORT}")
    if report["captions"]["count"]:
        first = report["captions"]["first"][0]
        print(f"warning: {report['captions']['count']} captions as {first['video']}: {first['said']}", file=sys.stderr)
    for note in report["notes"]:
        print(f"warning: {note}", file=sys.stderr)


def _with_unit(rate: str) -> str:
    """`24 FPS`, `8.57 FPS on average`."""
    fps, space, more = rate.partition(" ")
    return f"{fps} FPS{space}{more}"


def run_speed(arguments: argparse.Namespace) -> None:
    """Measure how fast clips are read, with one thread."""
    torch.set_num_threads(1)
    clips, count = PreparedClips([arguments.root]), arguments.batch
    draws = {"keyframes": clips.keyframes, "windows": clips.windows, "sequences": clips.sequences}
    speed = measure_speed(lambda rng: draws[arguments.kind](rng, count), count, arguments.seconds)
    print(
        f"{arguments.kind}: {speed['clips_per_second']:.0f} clips/s, "
        f"{speed['clips_per_core_second']:.0f} clips/s a core, in batches of {count}"
    )


LAYOUTS = {
    "folder": folder,
    "webdataset": webdataset,
    "ucf101": ucf101,
    "msrvtt": msrvtt,
    "vimeo90k": vimeo90k,
    "shapes": shapes,
}


def make_parser() -> argparse.ArgumentParser:
    """The options of every layout."""
    parser = argparse.ArgumentParser(prog="python -m training.prepare", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="LAYOUT")
    for name, layout in LAYOUTS.items():
        command = commands.add_parser(name, help=layout.__doc__, description=layout.__doc__, allow_abbrev=False)
        if name != "shapes":
            command.add_argument("root", type=os.path.expanduser if name == "webdataset" else home_path)
        _add_layout_options(command, name)
        _add_recipe_options(command)
        command.set_defaults(run=run_prepare, layout=layout)
    command = commands.add_parser("merge", help=run_merge.__doc__, description=run_merge.__doc__, allow_abbrev=False)
    command.add_argument("root", type=home_path, metavar="DIR")
    command.set_defaults(run=run_merge)
    command = commands.add_parser("speed", help=run_speed.__doc__, allow_abbrev=False)
    command.add_argument("root", type=home_path)
    command.add_argument("--kind", choices=("keyframes", "windows", "sequences"), default="keyframes")
    command.add_argument("--batch", type=int, default=8)
    command.add_argument("--seconds", type=float, default=5.0)
    command.set_defaults(run=run_speed)
    return parser


def parse_size(text: str) -> tuple[int, int]:
    """Height and width of `512x448`. Raises argparse.ArgumentTypeError for another text."""
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise argparse.ArgumentTypeError(f"a size must be HEIGHTxWIDTH, as 512x448; got {text!r}")
    return int(height), int(width)


def _add_layout_options(command: argparse.ArgumentParser, name: str) -> None:
    if name == "folder":
        command.add_argument("--captions", type=home_path, help=".csv or .jsonl with the fields video and caption")
    if name == "msrvtt":
        command.add_argument("--annotations", type=home_path, required=True, help="MSR-VTT's annotation JSON")
    if name in ("folder", "msrvtt"):
        command.add_argument("--skip-missing", action="store_true", help="list missing videos and go on")
    if name in ("ucf101", "msrvtt", "vimeo90k"):
        command.add_argument("--split", default="train", help=f"{', '.join(SPLITS)} (MSR-VTT: validate too)")
    if name == "ucf101":
        command.add_argument("--fold", type=int, default=1, choices=(1, 2, 3))
    if name in ("folder", "webdataset"):
        help = "several sizes, as 512x512 448x576 576x448: a video takes the one whose shape is nearest to its own"
        command.add_argument("--buckets", type=parse_size, nargs="+", metavar="HEIGHTxWIDTH", help=help)
    if name == "shapes":
        command.add_argument("--count", type=int, default=1000)
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--held-out", action="store_true", help="combinations that training never sees")


def _add_recipe_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=home_path, required=True, metavar="DIR")
    command.add_argument(
        "--model", type=os.path.expanduser, default="tiny", help="bundled name or model folder whose encoders are used"
    )
    command.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="default: the model's")
    command.add_argument("--keep", nargs="+", choices=KEEP, default=["latents"], help="pixels: for the decoder")
    command.add_argument("--fps", type=float, help="resample to this rate (default: as it is)")
    command.add_argument("--allow-slow", action="store_true", help="with --fps: use slower videos too, as they are")
    command.add_argument("--min-frames", type=int, help="of a shot (default 33; Vimeo-90k 7; keyframes need 181)")
    command.add_argument("--max-frames", type=int, default=720, help="longer shots are cut (default 720)")
    command.add_argument("--threshold", type=float, default=27.0, help="of a cut; 0 does not split (default 27)")
    command.add_argument("--device", default="cpu")
    command.add_argument("--chunk", type=int, default=16, help="videos in one file (default 16)")
    command.add_argument("--part", metavar="K/N", help="one of N parts; auto: by torchrun, srun or a SLURM array")
    command.add_argument("--drop-removed", action="store_true", help="let clips go whose videos or captions are gone")
    command.add_argument("--workers", type=int, default=0, help="processes beside this one (default 0: this one works)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = make_parser().parse_args(argv)
    return exit_code(lambda: _run(arguments), "the same command goes on where it was")


def _run(arguments: argparse.Namespace) -> None:
    for name, least in (("chunk", 1), ("workers", 0), ("count", 1), ("seed", 0), ("batch", 1)):
        value = getattr(arguments, name, None)
        if value is not None and value < least:
            raise ValueError(f"--{name} must be at least {least}; got {value}")
    arguments.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
