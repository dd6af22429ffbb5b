"""API-format prompts, written as Python: `graph.add("KSampler", model=loaded[0], ...)` gives a node to link from."""

from __future__ import annotations

from typing import Any

from fusionframes_core.presets import TINY
from tests.helpers.host_server import Server

CFG = 1 + TINY.guidance


class Node:
    """A node of a graph; `node[1]` is a link to its second output."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __getitem__(self, output: int) -> list[Any]:
        return [self.key, output]


class Graph:
    """A prompt under construction."""

    def __init__(self) -> None:
        self.prompt: dict[str, dict[str, Any]] = {}

    def add(self, class_type: str, /, **inputs: Any) -> Node:
        """Add a node; inputs are values, or links `node[output]`."""
        key = str(len(self.prompt) + 1)
        self.prompt[key] = {"class_type": class_type, "inputs": inputs}
        return Node(key)

    def ours(self, name: str, /, **inputs: Any) -> Node:
        """Add one of our nodes."""
        return self.add(f"FusionFrames_{name}", **inputs)


class Untouched(Graph):
    """A graph of our nodes with the values that a node has when it is put on the canvas."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.info = server.get("/object_info")

    def node(self, name: str, **links: Any) -> Any:
        """Add a node; only what is connected is given, and what chooses files."""
        given = self.info[f"FusionFrames_{name}"]["input"]
        every = {
            key: options for group in ("required", "optional") for key, (_, *options) in given.get(group, {}).items()
        }
        values = {key: options[0]["default"] for key, options in every.items() if options and "default" in options[0]}
        return self.ours(name, **{**values, **links})


class TinyGraph(Graph):
    """A graph that begins with the tiny model and a prompt."""

    def __init__(self, prompt: str = "a large red circle moving right") -> None:
        super().__init__()
        self.loaded = self.ours("LoadModel", model_name="tiny", precision="auto")
        self.keyframes, self.interpolation = self.loaded[0], self.loaded[1]
        self.clip, self.vae = self.loaded[2], self.loaded[3]
        self.positive = self.add("CLIPTextEncode", clip=self.clip, text=prompt)[0]
        self.negative = self.add("CLIPTextEncode", clip=self.clip, text="")[0]

    def empty(self, num_frames: int = 5) -> list[Any]:
        """Empty latents of 64×64 pixels."""
        return self.ours("EmptyVideoLatent", width=64, height=64, num_frames=num_frames, fps=2.0, batch_size=1)[0]

    def ksampler(self, model: Any = None, num_frames: int = 5, **changes: Any) -> list[Any]:
        """Latents of a stock KSampler."""
        inputs = {
            "model": model or self.keyframes,
            "positive": self.positive,
            "negative": self.negative,
            "latent_image": self.empty(num_frames),
            "seed": 3,
            "steps": 3,
            "cfg": CFG,
            "sampler_name": "euler",
            "scheduler": "sgm_uniform",
            "denoise": 1.0,
        }
        return self.add("KSampler", **{**inputs, **changes})[0]

    def sample_keyframes(self, **changes: Any) -> list[Any]:
        """Latents of our Sample Keyframes."""
        inputs = {"width": 64, "height": 64, "num_frames": 5, "seed": 3, "steps": 3, "cfg": CFG}
        names = {"model": self.keyframes, "text": self.positive, "sampler": "default", "scheduler": "default"}
        return self.ours("SampleKeyframes", **{**inputs, **names, **changes})[0]

    def interpolate(self, latents: Any, **changes: Any) -> list[Any]:
        """Latents of our Interpolate."""
        inputs = {"passes": 1, "seed": 3, "steps": 2, "cfg": 1.25, "skip_frames": 3, "perturbation": 0, "loop": False}
        names = {"model": self.interpolation, "latents": latents, "sampler": "default", "scheduler": "default"}
        return self.ours("Interpolate", **{**inputs, **names, **changes})[0]

    def decode(self, latents: Any, **changes: Any) -> Node:
        """Video and images of our Decode."""
        inputs = {"temporal": True, "fps": 0.0, "chunk": 16, "overlap": 4}
        return self.ours("Decode", **{"vae": self.vae, "latents": latents, **inputs, **changes})

    def save_latents(self, latents: Any, name: str = "latents/test") -> None:
        """Write latents for `Server.latents` to read."""
        self.add("SaveLatent", samples=latents, filename_prefix=name)

    def save_video(self, video: Any) -> None:
        """Write an MP4."""
        self.add("SaveVideo", video=video, filename_prefix="video/test", format="auto", codec="auto")
