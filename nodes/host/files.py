"""Model folders in ComfyUI's own folders (extra_model_paths included), and files of conditionings."""

from __future__ import annotations

from pathlib import Path, PurePath

import folder_paths

from ...fusionframes_core.checkpoints import model_folder

BUNDLED = "tiny"
MODEL_FOLDERS = "diffusion_models"
MARKER = "keyframe.safetensors"  # the file that makes a folder a FusionFrames model
CONDITIONING_FOLDER = "conditioning"  # inside ComfyUI's output folder


def model_names() -> list[str]:
    """The bundled model and every model folder inside ComfyUI's diffusion_models folders (extra paths included)."""
    files = map(PurePath, folder_paths.get_filename_list(MODEL_FOLDERS))
    folders = {str(file.parent) for file in files if file.name == MARKER and file.parent.name}
    return [BUNDLED, *sorted(folders - {BUNDLED})]


def model_location(name: str) -> Path:
    """The folder of a name of `model_names`. Raises ValueError when there is no such model."""
    if name == BUNDLED:
        return model_folder(BUNDLED)
    file = folder_paths.get_full_path(MODEL_FOLDERS, str(PurePath(name) / MARKER))
    if file is None:
        where = ", ".join(folder_paths.get_folder_paths(MODEL_FOLDERS))
        raise ValueError(
            f"model_name {name!r} is not there: put its folder (with {MARKER}) into {where}, or take 'tiny'"
        )
    return Path(file).parent


def conditioning_names() -> list[str]:
    """Saved conditionings, newest first."""
    folder = Path(folder_paths.get_output_directory()) / CONDITIONING_FOLDER
    files = sorted(folder.glob("*.safetensors"), key=lambda file: file.stat().st_mtime, reverse=True)
    return [file.name for file in files]


def conditioning_file(name: str) -> Path:
    """Where a saved conditioning is, or would be. Raises ValueError for a name that leaves the folder."""
    if not name or PurePath(name).name != name or name.startswith("."):
        raise ValueError(f"name must be a plain file name; got {name!r}")
    file = name if name.endswith(".safetensors") else f"{name}.safetensors"
    return Path(folder_paths.get_output_directory()) / CONDITIONING_FOLDER / file


def existing_conditioning(name: str) -> Path:
    """As `conditioning_file`. Raises ValueError when there is no such file."""
    file = conditioning_file(name)
    if not file.is_file():
        raise ValueError(f"name {name!r} is not there: FusionFrames Save Conditioning writes files into {file.parent}")
    return file
