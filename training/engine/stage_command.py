"""A training stage as a command: its arguments from the command line and a YAML file, errors in one sentence."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import jsonargparse

MADE_BY = {
    "clips": ": `python -m training.latents` makes such a file",
    "data": ": `python -m training.prepare` makes such a folder",
}


def run_command(train: Callable[..., Any], arguments: list[str] | None = None) -> None:
    """Run a stage's `train` with its arguments from the command line and the file after `--config`.

    Whatever is wrong with them is one sentence on the error output and exit status 2; a full disk or a run that had to
    stop is one with status 1. FUSIONFRAMES_DEBUG=1 shows where it came from.
    """
    try:
        parsed = parse(train, arguments)
        check_inputs(parsed)
        train(**parsed)
        leave_processes()
    except (ValueError, TypeError, OSError, ArithmeticError, ImportError) as error:
        if os.environ.get("FUSIONFRAMES_DEBUG"):
            traceback.print_exc()
        print(f"error: {one_line(error)}", file=sys.stderr)
        raise SystemExit(1 if isinstance(error, ArithmeticError | OSError) else 2) from None


def check_inputs(parsed: Mapping[str, Any]) -> None:
    """Raise ValueError for the first file or folder of a command's arguments that is not there.

    All of them but `output` are inputs: what a stage writes is under `train`. For before a model is built, which may
    take minutes.
    """
    for name, value in parsed.items():
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, Path) and name != "output" and not path.exists():
                hint = MADE_BY.get(name.removeprefix("validation_"), "")
                raise ValueError(f"{name} must name what is there; there is nothing at {path}{hint}")


def leave_processes() -> None:
    """Part from the other processes, if there are any: left to the interpreter's end, their threads may abort it."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def parse(train: Callable[..., Any], arguments: list[str] | None = None) -> dict[str, Any]:
    """The arguments of `train`, from the command line. Raises ValueError that names a key's nearest neighbour."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False, description=(train.__doc__ or "").split("\n")[0])
    parser.add_argument("--config", action="config", help="a YAML file with these arguments")
    parser.add_function_arguments(train, as_group=False)
    try:
        given = sys.argv[1:] if arguments is None else arguments
        parsed = parser.instantiate(parser.parse_args(with_lists(given, list_options(train))))
    except argparse.ArgumentError as error:
        raise ValueError(helpful(str(error), known_keys(parser))) from None
    return {key: value for key, value in vars(parsed).items() if key != "config"}


def list_options(train: Callable[..., Any], prefix: str = "--") -> set[str]:
    """The options of a stage that take several values; those of a group of settings are dotted."""
    found: set[str] = set()
    for name, hint in get_type_hints(train).items():
        if dataclasses.is_dataclass(hint):
            found |= list_options(hint, f"{prefix}{name}.")
        elif list in (get_origin(hint), *map(get_origin, get_args(hint))):
            found.add(prefix + name)
    return found


def with_lists(arguments: Sequence[str], lists: Collection[str]) -> list[str]:
    """`--data A B` and `--data A --data B` as the parser wants them, `--data=["A", "B"]`.

    Its own ways, `--data+ A`, `--data [A]` and `--data null`, stay.
    """
    gathered: dict[str, list[str]] = {}
    others: list[str] = []
    coming = list(arguments)
    while coming:
        argument = coming.pop(0)
        name, equals, value = argument.partition("=")
        values = [value] if equals else []
        while name in lists and not equals and coming and not coming[0].startswith("-"):
            values.append(coming.pop(0))
        if name in lists and values and not any(map(own_list, values)):
            gathered.setdefault(name, []).extend(values)
        else:
            others += [argument] if equals else [argument, *values]
    return others + [f"{name}={json.dumps(values, ensure_ascii=False)}" for name, values in gathered.items()]


def own_list(text: str) -> bool:
    """Whether a value is a list, or none, in the parser's own words."""
    return text.startswith("[") or text == "null"


def known_keys(parser: jsonargparse.ArgumentParser) -> list[str]:
    """Every key that a config file may have, dotted."""
    return [key for key in parser.get_defaults(skip_validation=True).keys() if key != "config"]  # noqa: SIM118


UNKNOWN = re.compile(r"(?:Group '(?P<group>[\w.]+)' does not accept option|Option) '(?P<key>[\w.\-]+)'")
UNKNOWN_OPTION = re.compile(r"unrecognized arguments: --(?P<key>[\w.\-]+)")
NO_FILE = re.compile(r"\"config\":?\s+File does not exist: (?P<path>.*)")
NO_YAML = re.compile(r"Problems parsing config: (?P<why>.*)", re.DOTALL)
WRONG = re.compile(r"Parser key \"(?P<key>[\w.]+)\":?\s+(?P<why>.*)", re.DOTALL)


def helpful(message: str, keys: list[str]) -> str:
    """The parser's complaint as one sentence that names the key that was meant."""
    no_file, no_yaml = NO_FILE.search(message), NO_YAML.search(message)
    if no_file:
        return f"config must name a file; there is none at {no_file['path']}"
    if no_yaml:
        return f"config must name a YAML file: {no_yaml['why']}"
    unknown = UNKNOWN.search(message) or UNKNOWN_OPTION.search(message)
    if unknown:
        group, key = unknown.groupdict().get("group"), unknown["key"]
        whole = f"{group}.{key}" if group else key
        near = difflib.get_close_matches(whole, keys, n=1, cutoff=0.6)
        near = near or [name for name in keys if name.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
        allowed = [name for name in keys if not group or name.startswith(f"{group}.")]
        return f"unknown key {whole}: " + (f"did you mean {near[0]}?" if near else f"allowed are {', '.join(allowed)}")
    wrong = WRONG.search(message)
    if wrong:
        return f"{wrong['key']} has the wrong type: {wrong['why']}"
    return message


def one_line(error: BaseException) -> str:
    """An error's message without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__
