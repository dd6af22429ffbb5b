"""The command line's options; those of a generation are made from GenerationSettings."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NoReturn

import torch

from ..checkpoints.convert import LAYOUTS
from ..checkpoints.offload import OFFLOADS
from ..checkpoints.temporal_blocks import AUTO, TEMPORAL_CHOICES
from ..checkpoints.text_encoder_weights import MODES
from ..files import check_name, home_path
from ..models.compiled import COMPILES
from ..sampling.guides import PULL
from ..sampling.sampler import SAMPLERS
from ..settings import GenerationSettings

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.float8_e4m3fn}
SLOW_FPS = 4.0  # up to here a video's frames are as far apart as keyframes
MAX_RATE = 1000  # frames a second


@dataclass(frozen=True)
class Wording:
    """What a command says of a setting in the place of the field's own help and default."""

    help: str | None = None
    default: str | None = None


INTERPOLATION_SETTINGS = {
    "seed": Wording(help="the same seed gives the same video"),
    "passes": Wording(help="interpolation passes, 1 or 2; each makes three new frames between every two"),
    "multiplier": Wording(),
    "target_fps": Wording(),
    "skip_frames": Wording(default=f"3 for a video of at most {SLOW_FPS:g} frames per second, 1 for a faster one"),
    "perturbation": Wording(),
    "interpolation_guidance": Wording(),
    "interpolation_steps": Wording(),
    "sampler": Wording(help=f"sampler of interpolation: {', '.join(SAMPLERS)}"),
    "size": Wording(default="the input's, rounded to what the model can make"),
}


class Parser(argparse.ArgumentParser):
    """argparse, but an error is one sentence instead of a page of usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\n")


def parse_size(text: str) -> tuple[int, int]:
    """ "64x96" → (64, 96), height first."""
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise argparse.ArgumentTypeError(f"size must be HEIGHTxWIDTH, such as 64x96; got {text!r}")
    return int(height), int(width)


def parse_whole_numbers(text: str) -> tuple[int, ...]:
    """ "3,1" → (3, 1)."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"must be whole numbers separated by commas, such as 3,1; got {text!r}")
    return tuple(map(int, parts))


def parse_path(text: str) -> str:
    """A path, in which `~` is the home folder (`--out=~/a.mp4`)."""
    try:
        check_name("a path", text)
        return str(home_path(text)) if text.startswith("~") else text
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def parse_rate(text: str) -> Fraction:
    """ "24" → 24, "30000/1001" → 30000/1001."""
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= MAX_RATE:
        raise argparse.ArgumentTypeError(f"fps must be a number above 0, at most {MAX_RATE}; got {text!r}")
    return rate


def parse_chunk(text: str) -> int | None:
    """ "auto" → None, "8" → 8."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be auto or a whole number of frames from 1; got {text!r}")
    return int(text)


def parse_guide(text: str) -> tuple[str, int, float]:
    """ "cat.png@0" → ("cat.png", 0, 1.0), "cat.png@-1=0.8" → ("cat.png", -1, 0.8)."""
    path, _, place = text.rpartition("@")
    index, _, strength = place.partition("=")
    try:
        if not path:
            raise ValueError
        return parse_path(path), int(index), float(strength or 1)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"guide must be FILE@KEYFRAME, such as first.png@0 or last.png@-1=0.8; got {text!r}"
        ) from None


def parse_lora(text: str) -> tuple[str, float]:
    """ "ring.safetensors=0.5" → ("ring.safetensors", 0.5); without a number the strength is 1."""
    path, _, strength = text.rpartition("=")
    try:
        return (parse_path(path), float(strength)) if path else (parse_path(text), 1.0)
    except ValueError:
        return parse_path(text), 1.0  # an equals sign in the file's name


PARSERS: dict[str, Any] = {
    "int": int,
    "int | None": int,
    "float": float,
    "float | None": float,
    "str": str,
    "str | None": str,
    "tuple[int, ...]": parse_whole_numbers,
    "tuple[int, int] | None": parse_size,
}
ALIASES = {"num_frames": ("--frames", "--keyframes")}


def add_settings(parser: argparse.ArgumentParser, wordings: Mapping[str, Wording] | None = None) -> None:
    """An option for each of GenerationSettings' fields (or those of `wordings`); what is not given is left out."""
    for field in dataclasses.fields(GenerationSettings):
        if wordings is not None and field.name not in wordings:
            continue
        wording = Wording() if wordings is None else wordings[field.name]
        flags = (*ALIASES.get(field.name, ()), "--" + field.name.replace("_", "-"))
        default = wording.default or _shown(field)
        parser.add_argument(
            *flags,
            dest=field.name,
            type=PARSERS[str(field.type)],
            default=argparse.SUPPRESS,
            help=f"{wording.help or field.metadata['help']} (default: {default})",
        )


def _shown(field: dataclasses.Field[Any]) -> str:
    """A field's default as it is typed."""
    if field.default is None:
        return str(field.metadata["unset"])
    return ",".join(map(str, field.default)) if isinstance(field.default, tuple) else repr(field.default)


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The GenerationSettings that were on the command line."""
    names = {field.name for field in dataclasses.fields(GenerationSettings)}
    return {name: value for name, value in vars(arguments).items() if name in names}


def make_parser() -> Parser:
    """The parser of all commands."""
    parser = Parser(prog="python -m fusionframes_core", description="FusionFrames text-to-video.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)

    generate = commands.add_parser("generate", help="make a video from a prompt", allow_abbrev=False)
    generate.add_argument("--prompt", required=True, help='what the video shows; "" for anything')
    add_settings(generate)
    generate.add_argument(
        "--image", metavar="FILE", type=parse_path, help="the first frame, or a video whose first frame it is (1.1)"
    )
    generate.add_argument(
        "--guide",
        metavar="FILE@KEYFRAME[=STRENGTH]",
        type=parse_guide,
        action="append",
        default=[],
        help="a picture for one of the keyframes, 0 the first, -1 the last; may be repeated (not 1.1)",
    )
    generate.add_argument(
        "--pull",
        type=float,
        default=PULL,
        help=f"how strongly the keyframes around begin with the guides too, 0 to 1 (default: {PULL:g})",
    )
    generate.add_argument(
        "--video",
        metavar="FILE",
        type=parse_path,
        help="a video to change, as far as --denoise says; it is read at the keyframes' frame rate (not 1.1)",
    )
    generate.add_argument(
        "--temporal-blocks",
        choices=TEMPORAL_CHOICES,
        default=AUTO,
        help="another temporal conditioning, from temporal_<name>.safetensors in the model folder (default: auto)",
    )
    generate.add_argument(
        "--contact-sheet", metavar="FILE.png", type=parse_path, help="also write all keyframes on one picture"
    )

    interpolate = commands.add_parser(
        "interpolate", help="four times the frame rate of a video, or any other", allow_abbrev=False
    )
    interpolate.add_argument("input", metavar="IN", type=parse_path, help="any video file, or a folder of pictures")
    interpolate.add_argument("--prompt", default="", help="what the video shows (1.1 models)")
    interpolate.add_argument("--max-frames", type=int, help="read only the first frames of the input")
    interpolate.add_argument(
        "--fps",
        dest="input_fps",
        type=parse_rate,
        help="bring the input to this rate first (default: its own, the average of a variable one, 24 for pictures)",
    )
    interpolate.add_argument("--no-audio", action="store_true", help="leave the sound out")
    interpolate.add_argument(
        "--allow-damaged", action="store_true", help="go on without the frames that cannot be read (default: an error)"
    )
    add_settings(interpolate, INTERPOLATION_SETTINGS)

    for command, changed in ((generate, "either U-Net"), (interpolate, "the interpolation U-Net")):
        command.add_argument(
            "--out", required=True, type=parse_path, help="FILE.mp4, FILE.gif, or a folder for PNG frames"
        )
        command.add_argument(
            "--model",
            default="tiny",
            type=parse_path,
            help='"tiny", a model folder, or a folder of official files (default: tiny)',
        )
        command.add_argument(
            "--lora",
            metavar="FILE[=STRENGTH]",
            type=parse_lora,
            action="append",
            default=[],
            help=f"a LoRA of {changed}, made by training.train_lora (default strength: 1); may be repeated",
        )
        command.add_argument("--dtype", choices=DTYPES, help="of the weights (default: fp32 on a CPU, bf16 on a GPU)")
        command.add_argument(
            "--offload",
            choices=OFFLOADS,
            default="none",
            help="where a model is while another works, layers: also a U-Net's blocks (default: none)",
        )
        command.add_argument(
            "--compile",
            choices=COMPILES,
            default="none",
            help="how U-Nets run: torch compiles them first, for minutes; graphs (NVIDIA) replays each step's kernels",
        )
        command.add_argument(
            "--decode-chunk",
            metavar="auto|N",
            type=parse_chunk,
            help="frames that are decoded at once (default: auto, as many as the free memory allows, up to 16)",
        )
        command.add_argument(
            "--text-encoder", metavar="FOLDER", type=parse_path, help="of google/flan-ul2, for official files"
        )
        command.add_argument(
            "--text-mode", choices=MODES, default="full", help="how the text encoder is held (default: full)"
        )
        command.add_argument("--device", default="auto", help="torch device (default: a GPU if there is one)")
        command.add_argument("--scale", type=int, default=1, help="write every pixel as SCALE x SCALE (default: 1)")

    convert = commands.add_parser("convert", help="rewrite a weights file, official or ours", allow_abbrev=False)
    convert.add_argument("input", metavar="IN", type=parse_path, help="a .pt or .safetensors file")
    convert.add_argument("output", metavar="OUT", type=parse_path, help="a .safetensors or .pt file")
    convert.add_argument("--dtype", choices=DTYPES, help="of the weights (default: as they are)")
    convert.add_argument("--layout", choices=LAYOUTS, default="ours", help="whose names (default: ours)")

    inspect = commands.add_parser("inspect", help="say what a weights file or model folder holds")
    inspect.add_argument("path", metavar="FILE_OR_FOLDER", type=parse_path)
    return parser
