"""The small pictures and the video that the shipped workflows name, put where ComfyUI's stock loaders look."""

from __future__ import annotations

import logging
from pathlib import Path

import folder_paths

from ....fusionframes_core.files import atomic_path

EXAMPLES = Path(__file__).resolve().parents[3] / "inputs"


def offer_example_inputs() -> None:
    """Copy what is missing into ComfyUI's input folder, the only one that Load Image and Load Video read.

    A file of the same name stays as it is. Where nothing can be written, workflows ask for a file of one's own.
    """
    target = Path(folder_paths.get_input_directory())
    try:
        for example in sorted(EXAMPLES.glob("fusionframes_*")):
            if not (target / example.name).exists():
                with atomic_path(target / example.name) as partial:
                    partial.write_bytes(example.read_bytes())
    except OSError as error:
        logging.warning("FusionFrames: example inputs for its workflows cannot be copied to %s (%s)", target, error)
