"""The command line of all evaluations: `python -m training.evaluate COMMAND`, see `--help`.

Each prints a table and, with --json, writes its report. Exit codes: 0 done; 2 bad input, one sentence on stderr; 130
interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fusionframes_core.checkpoints.component import COMPONENTS
from fusionframes_core.files import atomic_path, home_path
from fusionframes_core.media.frames import contact_sheet, enlarge
from fusionframes_core.media.write_video import write_png
from fusionframes_core.settings import GenerationSettings

from .engine.command_line import BadInput, check_device, check_output, check_positive, exit_code
from .engine.durable_files import write_json
from .evaluation import reports, video_commands
from .evaluation.decoder_quality import evaluate_decoder, print_decoder
from .evaluation.evaluated_models import generator_of, load_image_decoder, load_pipeline, tools_of
from .evaluation.interpolation_quality import PASSES, evaluate_interpolation, print_interpolation
from .evaluation.shape_accuracy import ShapesRun, print_shapes, run_shapes
from .moving_shapes.paraphrases import make_paraphrases
from .moving_shapes.prompts_file import make_prompts, read_prompts, write_prompts

PROMPTS = Path(__file__).parent / "prompts" / "held_out_200.jsonl"
PARAPHRASES = PROMPTS.with_name("paraphrases_200.jsonl")


def shapes(arguments: argparse.Namespace) -> None:
    """Generate the videos of a prompts file and measure whether they show what the prompts say."""
    prompts = read_prompts(arguments.prompts, arguments.limit)
    if arguments.save is not None:
        check_output(arguments.save / "0000.png", "--save")
    pipeline = load_pipeline(arguments.model, _files(arguments), ("text_encoder", "keyframe", "movq"), arguments.device)
    options = {name: getattr(arguments, name) for name in ("guidance", "steps", "sampler", "passes")}
    chosen = GenerationSettings(seed=arguments.seed, **options)
    resolved = chosen.resolve(pipeline.config)
    settings = {name: getattr(resolved, name) for name in options} | {"model": arguments.model, "seed": arguments.seed}
    settings |= {"files": {name: str(path) for name, path in _files(arguments).items()}}
    run = ShapesRun(generator_of(pipeline, chosen), settings, arguments.seed, arguments.batch)
    partial = arguments.json.with_name(arguments.json.name + ".partial") if arguments.json else None

    def save(index: int, row: dict[str, Any], video: NDArray[np.uint8]) -> None:
        if arguments.save is not None:
            write_png(contact_sheet(enlarge(video, 2), columns=len(video)), arguments.save / f"{index:04d}.png")

    report = run_shapes(prompts, run, partial, arguments.resume, save)
    _finish(report, arguments.json)
    if partial is not None:
        partial.unlink(missing_ok=True)
    print_shapes(report)


def interpolation(arguments: argparse.Namespace) -> None:
    """Interpolate true keyframes of unseen clips and compare with the true frames and with linear blending."""
    needed = ("text_encoder", "interpolation", "movq")
    pipeline = load_pipeline(arguments.model, _files(arguments), needed, arguments.device)
    options = {"guidance": arguments.guidance, "steps": arguments.steps, "sampler": arguments.sampler}
    settings = GenerationSettings(
        seed=arguments.seed,
        interpolation_guidance=arguments.guidance,
        interpolation_steps=arguments.steps,
        sampler=arguments.sampler,
    )
    settings.validate(pipeline.config)
    passes = tuple(PASSES) if arguments.passes is None else (arguments.passes,)
    clips = min(arguments.clips, arguments.limit or arguments.clips)
    report = evaluate_interpolation(tools_of(pipeline, settings), clips, arguments.seed, arguments.batch, passes)
    _finish(report | {"settings": options | {"model": arguments.model}}, arguments.json)
    print_interpolation(report)


def decoder(arguments: argparse.Namespace) -> None:
    """Compare the temporal with the image decoder on unseen clips."""
    needed = ("movq",) if arguments.only_true else ("text_encoder", "interpolation", "movq")
    pipeline = load_pipeline(arguments.model, _files(arguments), needed, arguments.device)
    tools = tools_of(pipeline)
    decoders = {"temporal": pipeline.decode, "image": lambda latents: pipeline.decode(latents, temporal=False)}
    if arguments.image_movq is not None:
        decoders["temporal layers skipped"] = decoders["image"]
        image = load_image_decoder(arguments.image_movq, pipeline.config.movq).to(pipeline.device)
        decoders["image"] = lambda latents: image.decode(latents.to(pipeline.device), temporal=False)
    report = evaluate_decoder(
        tools.encode,
        decoders,
        None if arguments.only_true else tools.interpolate,
        clips=min(arguments.clips, arguments.limit or arguments.clips),
        seed=arguments.seed,
        batch=arguments.batch,
        size=tools.size,
    )
    _finish(report | {"settings": {"model": arguments.model}}, arguments.json)
    print_decoder(report)


def write_held_out(arguments: argparse.Namespace) -> None:
    """Write prompts of combinations that training never sees."""
    make = make_paraphrases if arguments.paraphrases else make_prompts
    prompts = make(arguments.count, arguments.seed)
    out = arguments.out or (PARAPHRASES if arguments.paraphrases else PROMPTS)
    with atomic_path(out) as partial:
        partial.write_text(write_prompts(prompts), "utf-8")
    print(f"{len(prompts)} prompts in {out}")


def _finish(report: dict[str, Any], path: Path | None) -> None:
    if path is not None:
        write_json(path, report)


def _files(arguments: argparse.Namespace) -> dict[str, Path]:
    return {name: path for name in COMPONENTS if (path := getattr(arguments, name)) is not None}


def make_parser() -> argparse.ArgumentParser:
    """The options of every command."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = _command(commands, "shapes", shapes, batch=10)
    command.add_argument("--prompts", type=home_path, default=PROMPTS, help="JSONL or text, one prompt a line")
    command.add_argument("--guidance", type=float, help="keyframe guidance weight w of (1 + w)c - wu")
    command.add_argument("--passes", type=int, default=0, help="interpolation passes (default 0: keyframes alone)")
    command.add_argument("--save", type=home_path, help="folder for a picture of every video")
    command.add_argument("--resume", action="store_true", help="go on with the interrupted run of this --json file")
    _add_sampling(command)
    video_commands.add_commands(commands)
    reports.add_commands(commands)
    command = _command(commands, "interpolation", interpolation, batch=4)
    command.add_argument("--clips", type=int, default=64, help="clips in the fast and in the slow set (default 64)")
    command.add_argument("--guidance", type=float, help="context guidance weight w")
    command.add_argument("--passes", type=int, choices=tuple(PASSES), help="evaluate this pass alone")
    _add_sampling(command)
    command = _command(commands, "decoder", decoder, batch=4)
    command.add_argument("--clips", type=int, default=32, help="clips of 61 frames (default 32)")
    command.add_argument(
        "--image-movq", type=home_path, help="the image autoencoder that the temporal one started from"
    )
    command.add_argument("--only-true", action="store_true", help="leave interpolated latents out")
    command = commands.add_parser("make-prompts", help=write_held_out.__doc__, description=write_held_out.__doc__)
    command.add_argument("--out", type=home_path, help="file to write (default: the one in training/prompts)")
    command.add_argument("--count", type=int, default=200, help="number of prompts (default 200)")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--paraphrases", action="store_true", help="in wordings that no caption of training has")
    command.set_defaults(run=write_held_out)
    return parser


def _command(commands: Any, name: str, run: Any, batch: int) -> argparse.ArgumentParser:
    """A command with the options that the evaluations share."""
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=run.__doc__, description=run.__doc__, allow_abbrev=False
    )
    command.add_argument("--json", type=home_path, metavar="FILE", help="write the report there")
    command.add_argument(
        "--model", type=os.path.expanduser, default="tiny", help="bundled name or model folder (default tiny)"
    )
    for part in COMPONENTS:
        option = "--" + part.replace("_", "-")
        command.add_argument(option, type=home_path, metavar="FILE", help="use these weights instead of the model's")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--batch", type=int, default=batch, help=f"videos at once (default {batch})")
    command.add_argument("--limit", type=int, help="only the first so many prompts or clips, for a quick look")
    command.add_argument("--device", default="cpu")
    command.add_argument("--threads", type=int, help="CPU threads")
    command.set_defaults(run=run)
    return command


def _add_sampling(command: argparse.ArgumentParser) -> None:
    command.add_argument("--steps", type=int, help="denoising steps (default: the model's)")
    command.add_argument("--sampler", help="ddpm, ddim or dpmpp_2m (default: the model's)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = make_parser().parse_args(argv)
    return exit_code(lambda: _run(arguments), "`shapes --resume` goes on with the same --json")


def _run(arguments: argparse.Namespace) -> None:
    for name in ("batch", "limit", "clips", "count", "threads"):
        check_positive(getattr(arguments, name, None), f"--{name}")
    if getattr(arguments, "seed", 0) < 0:
        raise BadInput(f"--seed must be at least 0; got {arguments.seed}")
    for name in ("json", "out"):
        check_output(getattr(arguments, name, None), f"--{name}")
    check_device(getattr(arguments, "device", "cpu"))
    if getattr(arguments, "threads", None):
        torch.set_num_threads(arguments.threads)
    arguments.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
