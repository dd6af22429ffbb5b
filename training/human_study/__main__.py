"""`python -m training.human_study build | serve | summary`.

`build` makes a static page of pairs from two folders of videos; which model is on which side is drawn for every pair
and kept outside the page. `serve` shows it on this machine and collects votes in a file; without it the page keeps the
votes in the browser and offers them as a download. `summary` says who won. Exit codes: 0 done; 2 bad input; 130
interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence

from fusionframes_core.files import home_path

from ..engine.command_line import BadInput, check_output, check_positive, exit_code
from ..engine.durable_files import write_json
from ..evaluation.video_metrics import print_table
from .page import build
from .server import serve
from .votes import read_votes, summarise, summary_table


def run_build(arguments: argparse.Namespace) -> None:
    """Make the page."""
    folders = dict(zip(arguments.names or [path.name for path in arguments.folders], arguments.folders, strict=True))
    if len(folders) < 2:
        raise BadInput(f"--names must be two different names; got {arguments.names or arguments.folders[0].name}")
    key = build(folders, arguments.captions, arguments.page, arguments.key, arguments.seed, arguments.limit)
    print(f"{len(key['pairs'])} pairs in {arguments.page / 'index.html'}; who is who is in {arguments.key}")


def run_serve(arguments: argparse.Namespace) -> None:
    """Show a page on this machine and append the votes to a file."""
    server = serve(arguments.page, arguments.votes, arguments.port)
    print(f"http://127.0.0.1:{server.server_address[1]}/  votes go to {arguments.votes}; Ctrl-C ends", flush=True)
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


def run_summary(arguments: argparse.Namespace) -> None:
    """Count the votes."""
    report = summarise(read_votes(arguments.votes), arguments.key)
    if arguments.json is not None:
        write_json(arguments.json, report)
    title = f"{report['votes']} votes of {report['voters']} voters on {report['pairs']} pairs"
    print_table(title, ("question", *report["models"], "same", "p"), summary_table(report))


def make_parser() -> argparse.ArgumentParser:
    """The options of every command."""
    parser = argparse.ArgumentParser(prog="python -m training.human_study", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser("build", help=run_build.__doc__)
    command.add_argument(
        "folders", type=home_path, nargs=2, metavar="DIR", help="two folders with videos of the same names"
    )
    command.add_argument("--names", nargs=2, metavar="NAME", help="of the models (default: the folders')")
    command.add_argument(
        "--captions", type=home_path, help="CSV or JSONL (default: captions.jsonl in the first folder)"
    )
    command.add_argument("--page", type=home_path, required=True, metavar="DIR", help="where the page goes")
    command.add_argument(
        "--key", type=home_path, required=True, metavar="FILE.json", help="who is who; outside the page"
    )
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--limit", type=int, help="at most so many pairs")
    command.set_defaults(run=run_build)
    command = commands.add_parser("serve", help=run_serve.__doc__)
    command.add_argument("page", type=home_path)
    command.add_argument("--votes", type=home_path, required=True, metavar="FILE.jsonl")
    command.add_argument("--port", type=int, default=8765)
    command.set_defaults(run=run_serve)
    command = commands.add_parser("summary", help=run_summary.__doc__)
    command.add_argument("votes", type=home_path, nargs="+", metavar="FILE.jsonl")
    command.add_argument("--key", type=home_path, required=True, metavar="FILE.json")
    command.add_argument("--json", type=home_path)
    command.set_defaults(run=run_summary)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = make_parser().parse_args(argv)
    return exit_code(lambda: _run(arguments), "the same command may be run again")


def _run(arguments: argparse.Namespace) -> None:
    check_output(getattr(arguments, "json", None))
    if arguments.run is run_build:
        check_positive(arguments.limit, "--limit")
        check_output(arguments.key, "--key")
    arguments.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
