"""A real ComfyUI server for tests: started on a free port with the pack in its custom_nodes, always stopped.

Standard library only. The ComfyUI work tree is only read; all state lives in a temporary base directory.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

PACK_NAME = "ComfyUI-FusionFrames"
NOT_IN_PACK = shutil.ignore_patterns(".git", ".venv", "__pycache__", "output", "runs", ".*_cache", "*.egg-info")
SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.Workflow.Persist": False, "Comfy.Minimap.Visible": False}
DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", DYNAMIC_COMBO)
MISSING = object()
BYPASSED = 4  # a node's mode in a UI-format workflow
FINISHED = ("execution_success", "execution_error", "execution_interrupted")
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the server is here, never behind a proxy


class Rejected(Exception):
    """The server refused a prompt; `answer` is its JSON."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(json.dumps(answer))
        self.answer = answer

    @property
    def sentences(self) -> list[str]:
        """One line for each complaint: message and details."""
        errors = [error for node in self.answer["node_errors"].values() for error in node["errors"]]
        return [f"{error['message']}: {error['details']}" for error in errors]


class Server:
    """ComfyUI with this pack, by default on the CPU, and the little of its API that the tests need."""

    def __init__(self, comfyui: Path, python: Path, pack: Path, options: Sequence[str] = ("--cpu",)) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="fusionframes-comfyui-"))
        self.log = self.base / "server.log"
        self.client = uuid.uuid4().hex
        self.history: list[dict[str, Any]] = []
        for folder in ("custom_nodes", "input", "output", "temp", "models", "user/default"):
            (self.base / folder).mkdir(parents=True)
        (self.base / "user/default/comfy.settings.json").write_text(json.dumps(SETTINGS))
        shutil.copytree(pack, self.base / "custom_nodes" / PACK_NAME, ignore=NOT_IN_PACK)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._command = [
            *(str(python), "-u", str(comfyui / "main.py"), *options, "--listen", "127.0.0.1", "--port", str(self.port)),
            *("--base-directory", str(self.base), "--database-url", f"sqlite:///{self.base / 'user' / 'comfyui.db'}"),
            *("--disable-auto-launch", "--disable-api-nodes"),
        ]

    def __enter__(self) -> Server:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        environment.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", PYTHONDONTWRITEBYTECODE="1")
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=self.base
            )
        try:
            self._wait_until_up(seconds=600)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.base, ignore_errors=True)

    def _wait_until_up(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError):
                self.get("/system_stats")
                return
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"ComfyUI did not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.3)

    @property
    def process_id(self) -> int:
        """The server's process."""
        return self._process.pid

    @property
    def url(self) -> str:
        """Where the server answers."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, seconds: float = 120) -> Any:
        """JSON of a GET request, answered within `seconds`."""
        with OPENER.open(self.url + path, timeout=seconds) as answer:
            return json.load(answer)

    def text(self, path: str) -> str:
        """Body of a GET request. Raises urllib.error.HTTPError."""
        with OPENER.open(self.url + path, timeout=120) as answer:
            return answer.read().decode()

    def post(self, path: str, body: Any) -> Any:
        """JSON of a POST request, or None for an empty answer."""
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with OPENER.open(request, timeout=120) as answer:
            return json.loads(answer.read() or "null")

    def queue(self, prompt: dict[str, Any]) -> str:
        """Queue an API-format prompt; its id. Raises Rejected."""
        try:
            return self.post("/prompt", {"prompt": prompt, "client_id": self.client})["prompt_id"]
        except urllib.error.HTTPError as error:
            raise Rejected(json.load(error)) from None

    def finish(self, prompt_id: str, seconds: float = 900) -> dict[str, Any]:
        """Wait for a prompt's end; its history entry (outputs, status).

        A server that reads a large file may answer nothing for minutes.
        """
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            history = self.get(f"/history/{prompt_id}", max(left, 1))
            if prompt_id in history:
                return history[prompt_id]
            time.sleep(0.1)
        raise TimeoutError(f"prompt {prompt_id} did not end in {seconds} s:\n{self.log.read_text()[-4000:]}")

    def succeed(self, prompt: dict[str, Any]) -> dict[str, Any]:
        """Run a prompt; its history entry, also kept in `history`. Raises AssertionError with what went wrong."""
        entry = self.finish(self.queue(prompt))
        assert entry["status"]["status_str"] == "success", error_of(entry)
        self.history.append(entry)
        return entry

    def saved_files(self, entry: dict[str, Any], kind: str = "images") -> list[Path]:
        """The files that a finished prompt's output nodes saved, videos among the "images"."""
        records = [record for node in entry["outputs"].values() for record in node.get(kind, [])]
        return [self.base / record["type"] / record["subfolder"] / record["filename"] for record in records]

    def import_seconds(self) -> float:
        """How long the pack's import took, from the server's own table. Raises AssertionError when it failed."""
        line = re.search(rf"^.*seconds.*{PACK_NAME}$", self.log.read_text(), re.MULTILINE)
        assert line is not None, self.log.read_text()
        assert "IMPORT FAILED" not in line[0], self.log.read_text()
        (seconds,) = re.findall(r"([0-9.]+) seconds", line[0])
        return float(seconds)


def run_inside(comfyui: Any, *arguments: str, seconds: float = 600) -> tuple[str, str]:
    """Output and errors of ComfyUI's interpreter, which can import `inside`. Raises AssertionError if it fails."""
    paths = os.pathsep.join((str(Path(__file__).parent), str(comfyui.path)))
    done = subprocess.run(
        [str(comfyui.python), *arguments],
        cwd=comfyui.path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout, done.stderr


def error_of(entry: dict[str, Any]) -> str:
    """The sentence of a prompt that failed while running."""
    messages = entry["status"]["messages"]
    return next((data["exception_message"] for kind, data in messages if kind == "execution_error"), str(messages))


def websocket_messages(port: int, path: str) -> Iterator[dict[str, Any]]:
    """Text messages as {"type", "data", "at"} and binary ones as {"type": "binary", "data": bytes, "at"}, as they come.

    `at` is time.monotonic(). Connects at the first next(), whose value is the server's greeting.
    """
    connection = socket.create_connection(("127.0.0.1", port), timeout=1200)  # compiling is silent for minutes
    with connection, connection.makefile("rb") as stream:
        key = base64.b64encode(os.urandom(16)).decode()
        headers = f"Host: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}"
        connection.sendall(f"GET {path} HTTP/1.1\r\n{headers}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        while stream.readline().strip():
            pass
        while True:
            kind, length = struct.unpack("!BB", stream.read(2))
            if length > 125:
                length = struct.unpack("!H" if length == 126 else "!Q", stream.read(2 if length == 126 else 8))[0]
            payload = stream.read(length)
            if kind & 15 == 1:
                yield {**json.loads(payload), "at": time.monotonic()}
            elif kind & 15 == 2:
                yield {"type": "binary", "data": payload, "at": time.monotonic()}


class Listener(threading.Thread):
    """Collects a server's messages in `messages` while a test acts; `wait_for` waits for one of them."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.messages: list[dict[str, Any]] = []
        self._more = threading.Condition()
        self._source = websocket_messages(server.port, f"/ws?clientId={server.client}")
        self.messages.append(next(self._source))
        self.start()

    def run(self) -> None:
        """Append until the server closes the connection."""
        with contextlib.suppress(OSError, struct.error, ValueError):
            for message in self._source:
                with self._more:
                    self.messages.append(message)
                    self._more.notify_all()

    def wait_for(self, kind: str, seconds: float = 120, **data: Any) -> dict[str, Any]:
        """The first message of this type whose data holds these values, past or to come. Raises TimeoutError."""
        with self._more:
            if self._more.wait_for(lambda: self.find(kind, **data), seconds):
                return self.find(kind, **data)[0]
        raise TimeoutError(f"no {kind} {data} in {seconds} s")

    def find(self, kind: str, **data: Any) -> list[dict[str, Any]]:
        """Every message so far of this type whose data holds these values."""
        found = [message for message in self.messages if message["type"] == kind]
        return [message for message in found if not data or data.items() <= message["data"].items()]


def api_prompt(workflow: dict[str, Any], node_info: dict[str, Any]) -> dict[str, Any]:
    """A UI-format workflow as an API-format prompt; `node_info` is the server's /object_info."""
    sources = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    for node in workflow["nodes"]:
        if node["mode"] == BYPASSED:  # what goes in goes on, by its type
            for output in node["outputs"]:
                given = next(item["link"] for item in node["inputs"] if item["type"] == output["type"])
                sources.update(dict.fromkeys(output["links"] or [], sources[given]))
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] not in node_info or node["mode"] == BYPASSED:
            continue  # notes
        values = _widget_values(node, node_info[node["type"]])
        values.update({socket_["name"]: sources[socket_["link"]] for socket_ in node["inputs"] if socket_.get("link")})
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": values}
    return prompt


def _widget_values(node: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    """Values by name. Only optional widgets may have none: a newer ComfyUI's, which its own default serves."""
    left = list(node["widgets_values"])
    found = dict(_take(info["input"], left))
    assert not left, f"{node['type']} has {len(left)} values more than widgets: {left}"
    missing = [name for name, value in found.items() if value is MISSING]
    required = {name.split(".")[0] for name in missing} & set(info["input"].get("required", {}))
    assert not required, f"{node['type']} has no value for {required}"
    return {name: value for name, value in found.items() if value is not MISSING}


def _take(inputs: dict[str, Any], left: list[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(name, value) of every widget of `inputs` in order, taken from the values that are left.

    A dynamic combo's choice brings widgets of its own, whose names begin with the combo's. A seed is followed by the
    frontend's own 'control after generate'.
    """
    for group in ("required", "optional"):
        for short, (kind, *options) in inputs.get(group, {}).items():
            told, name = options[0] if options else {}, f"{prefix}{short}"
            if not (isinstance(kind, list) or kind in WIDGETS):
                continue
            value = left.pop(0) if left else MISSING
            yield name, value
            if kind == DYNAMIC_COMBO:
                chosen: dict[str, Any] = next(
                    (option for option in told["options"] if option["key"] == value), {"inputs": {}}
                )
                yield from _take(chosen["inputs"], left, f"{name}.")
            elif told.get("control_after_generate") and left:
                left.pop(0)
