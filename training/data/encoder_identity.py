"""Which weights files a data set was encoded by, and a LoRA trained over: known again wherever they lie."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fusionframes_core.checkpoints.component import Component

SAMPLES, SAMPLE = 64, 2**16  # blocks of a file that are read, and their bytes
DIGITS = 16


def weights_fingerprint(path: Path) -> str:
    """16 hexadecimal digits by a file's size and blocks of it, evenly spaced: files of many GB are not read whole."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for index in range(SAMPLES):
            file.seek(max(0, size - SAMPLE) * index // (SAMPLES - 1))
            digest.update(file.read(SAMPLE))
    return digest.hexdigest()[:DIGITS]


def component_identity(component: Component) -> dict[str, str]:
    """`file`, the names of a component's weights files, and `fingerprint` of all of them."""
    paths = [file.path for file, names in component.sources if names]
    prints = [weights_fingerprint(path) for path in paths]
    joined = prints[0] if len(prints) == 1 else hashlib.sha256(" ".join(prints).encode()).hexdigest()[:DIGITS]
    return {"file": ", ".join(path.name for path in paths), "fingerprint": joined}
