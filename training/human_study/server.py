"""The page on this machine alone, and a file that takes its votes."""

from __future__ import annotations

import json
import threading
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fusionframes_core.files import check_writable

from ..engine.command_line import BadInput
from .votes import check_vote

LARGEST = 100_000  # bytes of one request


class Handler(SimpleHTTPRequestHandler):
    """Files of the page; POST /votes appends a list of votes, all or none."""

    def __init__(self, *args: Any, votes: Path, lock: threading.Lock, **options: Any) -> None:
        self.votes, self.lock = votes, lock
        super().__init__(*args, **options)

    def do_POST(self) -> None:
        """Check the votes and append them to the file; 204, or 400 or 415 with nothing written."""
        length = self.headers.get("Content-Length", "")
        if self.path != "/votes" or not length.isdigit() or int(length) > LARGEST:
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        if self.headers.get("Content-Type") != "application/json":  # no form of another site sends that unasked
            self.send_error(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
            return
        try:
            votes = json.loads(self.rfile.read(int(length)))
            if not isinstance(votes, list):
                raise BadInput("votes must be a list")
            for vote in votes:
                check_vote(vote)
        except ValueError as error:
            self.send_error(HTTPStatus.BAD_REQUEST, str(error).splitlines()[0][:200])
            return
        with self.lock, open(self.votes, "a", encoding="utf-8") as file:
            file.write("".join(json.dumps(vote) + "\n" for vote in votes))
        self.send_response(HTTPStatus.NO_CONTENT)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not shown on the terminal."""


def serve(page: Path, votes: Path, port: int) -> ThreadingHTTPServer:
    """A server on 127.0.0.1 (port 0: any free one), not yet serving. Raises BadInput."""
    if not (page / "index.html").is_file():
        raise BadInput(f"no page in {page}: make it with `python -m training.human_study build`")
    check_writable(votes)
    votes.parent.mkdir(parents=True, exist_ok=True)
    handler = partial(Handler, votes=votes, lock=threading.Lock(), directory=str(page))
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), handler)
    except (OSError, OverflowError) as error:
        raise BadInput(f"--port {port} cannot be used: {error}") from error
