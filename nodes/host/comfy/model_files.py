"""Model files in ComfyUI's own folders (extra_model_paths included), and files of conditionings."""

from __future__ import annotations

from pathlib import Path, PurePath

import folder_paths

from ....fusionframes_core.checkpoints.official_folder import (
    OFFICIAL_FILES,
    TEXT_FOLDERS,
    TEXT_REPOSITORY,
    download_hint,
    find_file,
    official_version,
    require_files,
)
from ....fusionframes_core.checkpoints.open_model import model_folder
from ....fusionframes_core.checkpoints.text_encoder_weights import TOKENIZER_FILE

BUNDLED, AUTO = "tiny", "auto"
UNETS, TEXTS, VAES = "diffusion_models", "text_encoders", "vae"  # ComfyUI's names of its folders
MARKER = "keyframe.safetensors"  # the file that makes a folder a FusionFrames model
OFFICIAL_MARKERS = tuple(files["keyframe"] for files in OFFICIAL_FILES.values())
PROJECTION_FILES = ("t5_projections", "kandinsky_video")  # official files that hold a text projection
LONGEST_NAME = 255  # bytes of a file's name
CONDITIONING_FOLDER = "conditioning"  # inside ComfyUI's output folder
BUNDLED_LORAS = Path(__file__).resolve().parents[3] / "loras"


def offer_bundled_loras() -> None:
    """Let ComfyUI's LoRA loaders find the pack's own."""
    folder_paths.add_model_folder_path("loras", str(BUNDLED_LORAS))


def model_names() -> list[str]:
    """The bundled model and every model folder, of ours or of official files, in ComfyUI's diffusion_models folders."""
    files = map(PurePath, folder_paths.get_filename_list(UNETS))
    parents = [file.parent for file in files if file.name == MARKER or file.stem in OFFICIAL_MARKERS]
    folders = {str(parent.parent if parent.name == "weights" else parent) for parent in parents}
    return [BUNDLED, *sorted(folders - {BUNDLED, "."})]


def model_location(name: str) -> Path:
    """The folder of a name of `model_names`. Raises ValueError when there is no such model, or official files lack."""
    if name == BUNDLED:
        return model_folder(BUNDLED)
    folders = folder_paths.get_folder_paths(UNETS)
    found = [Path(folder) / name for folder in folders if name in model_names() and (Path(folder) / name).is_dir()]
    if not found:
        raise ValueError(
            f"model_name {name!r} is not there: put its folder (with {MARKER}, or the official files with "
            f"{' or '.join(f'{stem}.pt' for stem in OFFICIAL_MARKERS)}) into {', '.join(folders)}, or take 'tiny'"
        )
    if official_version(found[0]) is not None:
        require_files(found[0])
        official_text_folder(found[0])
    return found[0]


def official_text_folder(folder: Path) -> Path:
    """Where Flan-UL2 is for a folder of official files: inside it, or in ComfyUI's text_encoders."""
    places = [Path(place) / "flan-ul2" for place in folder_paths.get_folder_paths(TEXTS)]
    for place in (*(folder / name for name in TEXT_FOLDERS), *places):
        if place.is_dir():
            return place
    raise ValueError(
        f"no text encoder for {folder.name}: put {TEXT_REPOSITORY} (https://huggingface.co/{TEXT_REPOSITORY}) as the "
        f"folder flan-ul2 into {places[0].parent}"
    )


def unet_names() -> list[str]:
    """The bundled U-Nets and every file in diffusion_models."""
    return [*_bundled("keyframe", "interpolation"), *folder_paths.get_filename_list(UNETS)]


def unet_file(name: str) -> Path:
    """A file of `unet_names`. Raises ValueError when it is not there."""
    return _file("unet_name", name, UNETS)


def movq_names() -> list[str]:
    """The bundled MoVQ and every file in vae."""
    return [*_bundled("movq"), *folder_paths.get_filename_list(VAES)]


def movq_file(name: str) -> Path:
    """A file of `movq_names`. Raises ValueError when it is not there."""
    return _file("vae_name", name, VAES)


def text_names() -> list[str]:
    """The bundled text encoder and every folder with a tokenizer in text_encoders."""
    parents = {PurePath(file).parent for file in folder_paths.get_filename_list(TEXTS)}
    return [BUNDLED, *sorted(str(parent) for parent in parents if _text_folder(str(parent)) is not None)]


def text_location(name: str) -> Path:
    """A folder of `text_names`. Raises ValueError when it is not there."""
    if name == BUNDLED:
        return model_folder(BUNDLED)
    found = _text_folder(name) if name in text_names() else None
    if found is None:
        where = ", ".join(folder_paths.get_folder_paths(TEXTS))
        raise ValueError(
            f"text_encoder {name!r} is not there: put {TEXT_REPOSITORY} (https://huggingface.co/{TEXT_REPOSITORY}: its "
            f"weights, config.json and tokenizer.json) as a folder into {where}, or take 'tiny'"
        )
    return found


def projection_names() -> list[str]:
    """'auto' and every file that may hold a text projection: in text_encoders and in diffusion_models."""
    return [AUTO, *(name for kind in (TEXTS, UNETS) for name in folder_paths.get_filename_list(kind))]


def projection_file(name: str) -> Path:
    """A file of `projection_names`; 'auto' is the one official file that is there. Raises ValueError otherwise."""
    if name != AUTO:
        return _file("projection", name, TEXTS, UNETS)
    found = [file for file in projection_names()[1:] if PurePath(file).stem in PROJECTION_FILES]
    if len(found) == 1:
        return _file("projection", found[0], TEXTS, UNETS)
    if found:
        raise ValueError(
            f"projection 'auto' could be {' or '.join(found)}: choose the one of the model you sample with"
        )
    where = folder_paths.get_folder_paths(TEXTS)[0]
    raise ValueError(
        f"projection: no {'.pt or '.join(PROJECTION_FILES)}.pt there; put t5_projections.pt (KandinskyVideo 1.1) into "
        f"{where}{download_hint('t5_projections.pt')}"
    )


def check_text_files(text_encoder: str, projection: str) -> None:
    """Raise ValueError when one of the two is missing; the bundled text encoder needs no projection."""
    if text_location(text_encoder) != model_folder(BUNDLED):
        projection_file(projection)


def _bundled(*parts: str) -> list[str]:
    return [f"{BUNDLED}/{part}.safetensors" for part in parts]


def _text_folder(name: str) -> Path | None:
    places = [Path(folder) / name for folder in folder_paths.get_folder_paths(TEXTS)]
    return next((place for place in places if (place / TOKENIZER_FILE).is_file()), None)


def _file(what: str, name: str, *kinds: str) -> Path:
    """A file in one of ComfyUI's folders, or of the bundled model."""
    if name.startswith(f"{BUNDLED}/") and name in _bundled("keyframe", "interpolation", "movq"):
        return model_folder(BUNDLED) / PurePath(name).name
    for kind in kinds:
        found = folder_paths.get_full_path(kind, name)
        if found is not None:
            return Path(found)
    where = ", ".join(folder for kind in kinds for folder in folder_paths.get_folder_paths(kind))
    raise ValueError(f"{what} {name!r} is not there: put it into {where}{download_hint(name)}")


def movq_beside(folder: Path) -> Path | None:
    """The MoVQ whose latents a U-Net in this folder makes: beside it, or an official one in vae."""
    if (folder / "movq.safetensors").is_file():
        return folder / "movq.safetensors"
    version = official_version(folder)
    stems = [files["movq"] for name, files in OFFICIAL_FILES.items() if version in (name, None)]
    beside = [file for stem in stems if (file := find_file(folder, stem)) is not None]
    names = [name for name in folder_paths.get_filename_list(VAES) if PurePath(name).stem in stems]
    return next(iter(beside), None) or (movq_file(names[0]) if names else None)


def conditioning_names() -> list[str]:
    """Saved conditionings, newest first, without links to what is gone."""
    folder = Path(folder_paths.get_output_directory()) / CONDITIONING_FOLDER
    files = [file for file in folder.glob("*.safetensors") if file.is_file()]
    return [file.name for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)]


def conditioning_file(name: str) -> Path:
    """Where a saved conditioning is, or would be. Raises ValueError for a name that leaves the folder."""
    if not name or PurePath(name).name != name or name.startswith("."):
        raise ValueError(f"name must be a plain file name; got {name!r}")
    file = name if name.endswith(".safetensors") else f"{name}.safetensors"
    if len(file.encode()) > LONGEST_NAME:
        raise ValueError(
            f"name must be at most {LONGEST_NAME} bytes long with .safetensors, which is what file systems take; got "
            f"{len(file.encode())}"
        )
    return Path(folder_paths.get_output_directory()) / CONDITIONING_FOLDER / file


def existing_conditioning(name: str) -> Path:
    """As `conditioning_file`. Raises ValueError when there is no such file."""
    file = conditioning_file(name)
    if not file.is_file():
        raise ValueError(f"name {name!r} is not there: FusionFrames Save Conditioning writes files into {file.parent}")
    return file
