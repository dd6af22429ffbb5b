"""A queue of a hundred runs leaves memory as it was."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import mean

import pytest

from tests.helpers.host_graphs import TinyGraph
from tests.helpers.host_server import Server

pytestmark = [pytest.mark.host, pytest.mark.slow]

# Libraries keep what they prepared for each shape: memory is compared once every shape was there, twice.
RUNS, WARM = 100, 24
SIZES = ((32, 48), (48, 64), (64, 80), (80, 32))


def resident(server: Server) -> float:
    """MB of memory that the server's process has."""
    status = Path(f"/proc/{server.process_id}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def run(server: Server, number: int) -> None:
    """Another seed and another size and length than the run before, with a guide, patches and two rates by turns."""
    graph = TinyGraph()
    width, height = SIZES[number % 4]
    size = {"width": width, "height": height}
    model = graph.keyframes
    if number % 3 == 0:
        images = graph.add("EmptyImage", width=64, height=64, batch_size=1, color=0xFF0000)[0]
        guide = {"index": 0, "strength": 1.0, "pull": 0.4, **size}
        model = graph.ours("AddGuide", model=model, vae=graph.vae, image=images, **guide)[0]
    if number % 3 == 1:
        model = graph.add("PerturbedAttentionGuidance", model=model, scale=3.0)[0]
    keyframes = graph.sample_keyframes(model=model, seed=number, steps=1, num_frames=2 + number % 3, **size)
    video = graph.interpolate(keyframes, seed=number, steps=1, multiplier=2 + number % 3)
    graph.add("PreviewImage", images=graph.decode(video)[1])
    server.succeed(graph.prompt)


def test_a_hundred_runs(server: Server) -> None:
    """After the first ones memory grows by less than 1 %."""
    if not Path("/proc/self/status").is_file():
        pytest.skip("memory of another process is read from /proc, which this system does not have")
    used = []
    for number in range(WARM + RUNS):
        run(server, number)
        used.append(resident(server))
    before, after = mean(used[WARM - 5 : WARM + 5]), mean(used[-10:])
    print(f"{RUNS} runs: {before:.1f} MB → {after:.1f} MB ({after / before - 1:+.2%}), at most {max(used):.1f} MB")
    assert after < 1.01 * before
