"""A run that cannot fit into memory says so before its first step: the log has the sentence, and the work goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.host_server import run_inside

pytestmark = [pytest.mark.host, pytest.mark.slow]

# The free memory is made up; the work is small and runs.
SCARCE = """
import sys
import inside
pack = inside.start(sys.argv.pop(1))
import torch
import comfy.model_management as management
host, free = pack("nodes.host"), pack("nodes.host.comfy.memory")
torch.set_grad_enabled(False)
keyframes, _, clip, vae, _ = host.load_parts("tiny", "fp32", "auto")
how = {"seed": 1, "steps": 20, "cfg": 1.0}
pair = host.text_conditionings(host.encode(clip, "a red circle"), None)
for room in (1e12, 5e5):
    free.available = lambda device: room
    print("ROOM", room, file=sys.stderr)
    for model, frames in ((keyframes, 6), (host.with_windows(keyframes, 2, 1), 6)):
        samples = host.empty_latents(1, host.VideoShape(64, 64, frames))
        made = host.sample_keyframes(model, pair, samples, host.sampling_options(model, **how))
    host.decode(vae, made, True, host.decode_windows(vae, 2, 0))
assert free.available(management.get_torch_device()) == room
"""


def test_scarce_memory_is_said(comfyui: Any, root: Path) -> None:
    """Nothing where there is room; otherwise the size of the work, of a window of it, and of a chunk of decoding."""
    output, errors = run_inside(comfyui, "-c", SCARCE, str(root))
    plenty, scarce = errors.split("ROOM")[1:]
    assert "FusionFrames:" not in plenty
    said = [line for line in (scarce + output).splitlines() if "FusionFrames:" in line]
    print("\n".join(said))
    assert any("sampling 2 frames" in line for line in said)  # one of the windows
    assert any("sampling 6 frames of 64×64 pixels takes about" in line and "fewer frames" in line for line in said)
    assert any(
        "decoding 2 frames of 64×64 pixels at a time" in line and "smaller temporal_size" in line for line in said
    )
    assert all("0.1 are left" in line for line in said)
