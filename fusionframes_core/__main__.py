"""The command line: `python -m fusionframes_core generate | interpolate | convert | inspect`.

Exit codes: 0 done; 1 the machine failed (memory, disk); 2 bad input, one sentence on stderr; 130 interrupted.
"""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import torch

from .cli import commands
from .cli.arguments import make_parser

COMMANDS = {
    "generate": commands.generate,
    "interpolate": commands.interpolate,
    "convert": commands.convert,
    "inspect": commands.inspect,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors are one sentence on stderr."""
    arguments = make_parser().parse_args(argv)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            COMMANDS[arguments.command](arguments)
        except ValueError as error:
            return _fail(2, error)
        except (OSError, torch.OutOfMemoryError) as error:
            return _fail(1, error)
        except KeyboardInterrupt:
            return _fail(130, "interrupted; nothing was written")
    return 0


def _fail(code: int, error: object) -> int:
    print("error:", " ".join(str(error).split()), file=sys.stderr)
    return code


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print("warning:", message, file=sys.stderr)


def _terminate(*_: Any) -> NoReturn:
    sys.exit(143)  # unlike the signal itself, it lets temporary files be removed


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(main())
