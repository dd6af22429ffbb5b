"""What does not fit into memory is said before the first step: a little too large goes on, far too large stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.host_server import run_inside

pytestmark = [pytest.mark.host, pytest.mark.slow]

# The free memory is made up, as a share of what is needed; the work is small and runs.
SHARES = (10.0, 0.7, 0.4)
SCARCE = """
import sys
import inside
pack = inside.start(sys.argv.pop(1))
import torch
import comfy.model_management as management
host, free = pack("nodes.host"), pack("nodes.host.comfy.memory")
torch.set_grad_enabled(False)
keyframes, _, clip, _, _ = host.load_parts("tiny", "fp32", "auto")
how = {"seed": 1, "steps": 20, "cfg": 1.0}
pair = host.text_conditionings(host.encode(clip, "a red circle"), None)
samples = host.empty_latents(1, host.VideoShape(64, 64, 6))


def sample(model):
    return host.sample_keyframes(model, pair, samples, host.sampling_options(model, **how))


work = {
    "frames": lambda: sample(keyframes),
    "window": lambda: sample(host.with_windows(keyframes, 2, 1)),
}
compare = free._compare
for share in SHARES:
    print("SHARE", file=sys.stderr)

    def judged(needed, *words):
        free.available = lambda device: share * needed
        compare(needed, *words)

    free._compare = judged
    for name, run in work.items():
        try:
            run()
            print(name, "ran", file=sys.stderr)
        except ValueError as error:
            print(name, "refused", error, file=sys.stderr)
""".replace("SHARES", repr(SHARES))

SENTENCES = {
    "frames": ("sampling 6 frames of 64×64 pixels takes about", "fewer frames"),
    "window": ("sampling 2 frames of 64×64 pixels takes about",),
}


def test_scarce_memory_is_said(comfyui: Any, root: Path) -> None:
    """Nothing where there is room; otherwise the size of the work, and of a window of it."""
    _, errors = run_inside(comfyui, "-c", SCARCE, str(root))
    plenty, scarce, hopeless = errors.split("SHARE")[1:]
    print(scarce, hopeless)
    assert "FusionFrames:" not in plenty
    for name, words in SENTENCES.items():
        assert f"{name} ran" in plenty
        assert f"{name} ran" in scarce
        warnings = [line for line in scarce.splitlines() if "FusionFrames:" in line and "0.1 are left" in line]
        assert any(all(word in line for word in words) for line in warnings)
        (refusal,) = (line for line in hopeless.splitlines() if line.startswith(f"{name} refused"))
        assert all(word in refusal for word in words)
