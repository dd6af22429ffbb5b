"""A training stage as a command: its arguments from the command line and a YAML file, errors in one sentence."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import math
import os
import re
import sys
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, get_args, get_origin, get_type_hints

import jsonargparse

from .config_file import check_config_files

MADE_BY = {
    "clips": ": `python -m training.latents` makes such a file",
    "data": ": `python -m training.prepare` makes such a folder",
}


class Stage(Protocol):
    """A training stage: its options are fields, `run` trains it."""

    def run(self) -> None:
        """Train, and write the weights."""
        ...


def run_stage(stage: Callable[..., Stage], arguments: list[str] | None = None) -> None:
    """`run_command` for a class of Stage, whose fields are the arguments."""
    _run(stage, lambda parsed: stage(**parsed).run(), arguments)


def run_command(command: Callable[..., None], arguments: list[str] | None = None) -> None:
    """Call `command` with its arguments from the command line and the file after `--config`.

    Whatever is wrong with them is one sentence on the error output and exit status 2; a full disk or a run that had to
    stop is one with status 1. FUSIONFRAMES_DEBUG=1 shows where it came from.
    """
    _run(command, lambda parsed: command(**parsed), arguments)


def _run(command: Callable[..., Any], work: Callable[[dict[str, Any]], None], arguments: list[str] | None) -> None:
    try:
        parsed = parse(command, arguments)
        check_inputs(parsed)
        work(parsed)
        leave_processes()
    except SystemExit:  # all processes were told to stop, and have saved
        leave_processes()
        raise
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
    """Leave the process group, if there is one: left to the interpreter's end, its threads may abort it."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def parse(command: Callable[..., Any], arguments: list[str] | None = None) -> dict[str, Any]:
    """The arguments of a function or a dataclass, from the command line.

    Raises ValueError that names an unknown key's nearest neighbour, or a number that is not finite.
    """
    parser = jsonargparse.ArgumentParser(exit_on_error=False, description=(command.__doc__ or "").split("\n")[0])
    parser.add_argument("--config", action="config", help="a YAML file with these arguments")
    if isinstance(command, type):
        parser.add_class_arguments(command, as_group=False)
    else:
        parser.add_function_arguments(command, as_group=False)
    given = sys.argv[1:] if arguments is None else arguments
    check_config_files(given)
    try:
        parsed = parser.instantiate(at_home(parser.parse_args(with_lists(given, list_options(command)))))
    except argparse.ArgumentError as error:
        raise ValueError(helpful(str(error), known_keys(parser))) from None
    found = {key: value for key, value in vars(parsed).items() if key != "config"}
    check_finite(found)
    return found


def at_home(parsed: jsonargparse.Namespace) -> jsonargparse.Namespace:
    """The arguments, with the home folder, mine or somebody's, in the place of a `~` or `~name` that a path begins
    with."""
    for key, value in list(parsed.items()):
        parsed[key] = [_at_home(part) for part in value] if isinstance(value, list) else _at_home(value)
    return parsed


def _at_home(value: Any) -> Any:
    is_path = isinstance(value, str | Path) and str(value).startswith("~")
    return type(value)(os.path.expanduser(value)) if is_path else value


def check_finite(parsed: Mapping[str, Any]) -> None:
    """Raise ValueError for the first number that is NaN or infinity: no option means either."""
    for name, value in parsed.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number; got {value}")


def list_options(command: Callable[..., Any], prefix: str = "--") -> set[str]:
    """The options of a command that take several values; those of a group of settings are dotted."""
    options: set[str] = set()
    for name, hint in get_type_hints(command).items():
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            options |= list_options(hint, f"{prefix}{name}.")
        elif list in (get_origin(hint), *map(get_origin, get_args(hint))):
            options.add(prefix + name)
    return options


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
        if name in lists and values and not any(map(is_list_literal, values)):
            gathered.setdefault(name, []).extend(values)
        else:
            others += [argument] if equals else [argument, *values]
    return others + [f"{name}={json.dumps(values, ensure_ascii=False)}" for name, values in gathered.items()]


def is_list_literal(text: str) -> bool:
    """Whether a value is a list, or none, in the parser's own syntax."""
    return text.startswith("[") or text == "null"


def known_keys(parser: jsonargparse.ArgumentParser) -> list[str]:
    """Every key that a config file may have, dotted."""
    return [key for key in parser.get_defaults(skip_validation=True).keys() if key != "config"]  # noqa: SIM118


UNKNOWN = re.compile(r"(?:Group '(?P<group>[\w.]+)' does not accept option|Option) '(?P<key>[\w.\-]+)'")
UNKNOWN_OPTION = re.compile(r"unrecognized arguments: --(?P<key>[\w.\-]+)")
NO_FILE = re.compile(r"\"config\":?\s+File does not exist: (?P<path>.*)")
NO_YAML = re.compile(r"Problems parsing config: (?P<why>.*)", re.DOTALL)
WRONG = re.compile(r"Parser key \"(?P<key>[\w.]+)\":?\s+(?P<why>.*)", re.DOTALL)
WRONG_UNION = re.compile(r"Subtypes: \[(?P<kinds>[^\n]*)\]\n.*Given value: (?P<got>.*)", re.DOTALL)
WRONG_TYPE = re.compile(r"Expected a (?P<kinds>.*)\. Got value: (?P<got>.*)", re.DOTALL)
KINDS = {
    "list[pathlib.Path]": "a list of paths such as [a, b]",
    "list[str]": "a list of texts such as [a, b]",
    "<class 'list'>": "a list such as [a, b]",
    "<class 'tuple'>": "a list such as [a, b]",
    "tuple with 2 elements": "a list of two",
    "<class 'pathlib.Path'>": "a path",
    "<class 'str'>": "text in quotes",
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a number",
    "<class 'bool'>": "true or false",
    "<class 'NoneType'>": "null",
}
"""What the parser calls types, and what a YAML file has of them."""


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
        dotted = f"{group}.{key}" if group else key
        near = difflib.get_close_matches(dotted, keys, n=1, cutoff=0.6)
        near = near or [name for name in keys if name.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
        allowed = [name for name in keys if not group or name.startswith(f"{group}.")]
        return f"unknown key {dotted}: " + (f"did you mean {near[0]}?" if near else f"allowed are {', '.join(allowed)}")
    wrong = WRONG.search(message)
    if wrong:
        return f"{wrong['key']} has the wrong type: {_wanted(wrong['why'])}"
    return message


def _wanted(why: str) -> str:
    """What a value must be and is, where the parser says so."""
    found = WRONG_UNION.search(why) or WRONG_TYPE.search(why)
    if not found:
        return why
    kinds = found["kinds"].replace(", <", " or <")
    for name, words in KINDS.items():
        kinds = kinds.replace(name, words)
    return f"it must be {kinds}; got {found['got']}"


def one_line(error: BaseException) -> str:
    """An error's message without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__
