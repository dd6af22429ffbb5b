"""What a training stage takes, counted on the meta device: memory by part, speed, days, and settings that fit a card.

`python -m training.plan paper_keyframes --cards 8 --memory 80`. CONFIG is a file in training/configs, or the YAML file
of a keyframe, interpolation, decoder or LoRA stage; options that it knows may follow, as `--train.batch_size 2`. No
weights and no data are read. Exit codes: 0 done; 2 bad input, one sentence on stderr.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fusionframes_core.checkpoints.open_model import open_model
from fusionframes_core.config import ModelConfig
from fusionframes_core.presets import PRESETS

from .accounting.card_memory import GB, PlannedStage, memory_parts, speed, total
from .accounting.fitting import first_that_fits
from .accounting.stage_plans import plan_decoder, plan_interpolation, plan_keyframes
from .engine.command_line import exit_code
from .engine.flops import PEAK_TFLOPS
from .engine.model_config import model_config
from .engine.stage_command import parse
from .train_decoder import DecoderStage
from .train_interp import InterpolationStage
from .train_keyframes import KeyframeStage
from .train_lora import LoraStage

CONFIGS = Path(__file__).parent / "configs"
CARDS = (1, 8, 64)
H100 = PEAK_TFLOPS["H100"]

Size = tuple[int, int] | None


def _keyframes(stage: KeyframeStage, size: Size) -> PlannedStage:
    config = model_config(stage.preset)
    if stage.temporal is not None:
        config = dataclasses.replace(config, keyframe=dataclasses.replace(config.keyframe, temporal=stage.temporal))
    return plan_keyframes(config, stage.train, size, stage.parts)


def _interpolation(stage: InterpolationStage, size: Size) -> PlannedStage:
    if stage.architecture != "groups":
        raise ValueError(f'architecture must be "groups" to be planned; got {stage.architecture!r}')
    return plan_interpolation(model_config(stage.preset), stage.train, stage.window, size)


def _decoder(stage: DecoderStage, size: Size) -> PlannedStage:
    config = model_config(stage.preset)
    movq = dataclasses.replace(config.movq, decoder=stage.decoder or config.movq.decoder)
    return plan_decoder(dataclasses.replace(config, movq=movq), stage.train, stage.frames, stage.parts, size)


def _lora(stage: LoraStage, size: Size) -> PlannedStage:
    return stage.plan(_model_named(stage.model), size)


def _model_named(name: str) -> ModelConfig:
    """A preset's configuration, without any file, or a model folder's."""
    return PRESETS[name] if name in PRESETS else open_model(name).config


STAGES: dict[str, tuple[type, Callable[[Any, Size], PlannedStage]]] = {
    "lora": (LoraStage, _lora),
    "decoder": (DecoderStage, _decoder),
    "interp": (InterpolationStage, _interpolation),
    "keyframes": (KeyframeStage, _keyframes),
}
"""By what a config file's name holds; the first that fits."""


def make_parser() -> argparse.ArgumentParser:
    """The command's own options."""
    parser = argparse.ArgumentParser(prog="python -m training.plan", description=__doc__, allow_abbrev=False)
    parser.add_argument("config", metavar="CONFIG", help="a name in training/configs, or a YAML file of a stage")
    parser.add_argument("--stage", choices=STAGES, help="which stage the file is of (default: by its name)")
    parser.add_argument("--cards", type=int, default=8, help="that memory is shown for (default 8)")
    parser.add_argument("--memory", type=float, default=80.0, help="GB of a card, 10^9 bytes (default 80)")
    parser.add_argument("--utilisation", type=float, default=0.35, help="share of a card's rate (default 0.35)")
    parser.add_argument(
        "--tflops", type=float, default=H100, help=f"a card's rate in bf16 (default {H100:g}, an H100's)"
    )
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="of the clips in pixels")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def open_plan(name: str, stage: str | None, rest: Sequence[str], size: Size = None) -> PlannedStage:
    """The stage of a config file. Raises ValueError for an unknown file, stage or setting."""
    path = Path(name) if Path(name).suffix else CONFIGS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in CONFIGS.glob("*.yaml")))
        raise ValueError(f"CONFIG must be a YAML file, or one of {known}; got {name!r}")
    chosen = stage or next((known for known in STAGES if known in path.stem), None)
    if chosen is None:
        raise ValueError(f"--stage must say which of {', '.join(STAGES)} {path.name} is of; its name does not")
    kind, plan = STAGES[chosen]
    return plan(kind(**parse(kind, ["--config", str(path), *rest])), size)


def describe(plan: PlannedStage, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of a plan: `memory` in GB by part, `fits`, and `speed` by the number of cards."""
    parts = memory_parts(plan.trace(plan.setting), plan.setting, options.cards)
    fitting = first_that_fits(plan, options.cards, options.memory * GB)
    plain = dataclasses.replace(plan.setting, checkpointing=False)
    rate = options.utilisation * options.tflops * 1e12
    return {
        "stage": plan.name,
        "setting": dataclasses.asdict(plan.setting),
        "memory": {name: size / GB for name, size in parts.items()},
        "total": sum(parts.values()) / GB,
        "without_checkpointing": total(plan, plain, options.cards) / GB,
        "fits": None
        if fitting is None
        else {"changes": fitting[0], "total": total(plan, fitting[1], options.cards) / GB},
        "operations": plan.operations(plan.setting),
        "speed": {cards: dataclasses.asdict(speed(plan, cards, rate)) for cards in sorted({*CARDS, options.cards})},
    }


def show(found: dict[str, Any], options: argparse.Namespace) -> None:
    """Print a description as text."""
    setting = ", ".join(f"{name} {value}" for name, value in found["setting"].items())
    print(f"{found['stage']}: {setting}")
    print(f"\nmemory on each of {options.cards} cards, GB (counted on the meta device, not measured)")
    for name, size in found["memory"].items():
        print(f"  {name:<20}{size:8.2f}")
    print(f"  {'together':<20}{found['total']:8.2f}   without checkpointing {found['without_checkpointing']:.1f}")
    fits = found["fits"]
    if fits is None:
        print(f"\nno setting fits a card of {options.memory:g} GB: take a smaller --size, or more --cards")
    else:
        how = f"with {', '.join(fits['changes'])}" if fits["changes"] else "as it is"
        print(f"\nfits a card of {options.memory:g} GB {how}: {fits['total']:.1f} GB")
    print(f"\na clip takes {found['operations'] / 1e12:.3g} TFLOP, forward and backward")
    print(
        f"speed at {options.utilisation:.0%} of {options.tflops:g} TFLOP/s a card, if cards do not wait for each other"
    )
    for cards, figures in found["speed"].items():
        print(
            f"  {cards:>4} cards: {figures['frames']:9.2f} frames/s {figures['tokens']:12.0f} tokens/s "
            f"{figures['days']:9.2f} days for the run's clips"
        )


def run(argv: Sequence[str] | None) -> None:
    """The command. Raises ValueError for bad input."""
    options, rest = make_parser().parse_known_args(argv)
    for name, least in (("cards", 1), ("memory", 1e-3), ("utilisation", 1e-6), ("tflops", 1e-6)):
        if getattr(options, name) < least:
            raise ValueError(f"--{name} must be at least {least:g}; got {getattr(options, name)}")
    size = None if options.size is None else (options.size[0], options.size[1])
    found = describe(open_plan(options.config, options.stage, rest, size), options)
    print(json.dumps(found, indent=1)) if options.json else show(found, options)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return exit_code(lambda: run(argv), "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
