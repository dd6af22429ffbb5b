"""Names of model files in ComfyUI's folders, and what is said when one is missing."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.helpers.stand_in_comfyui import PACK, Folders


@pytest.fixture
def files(nodes: ModuleType) -> Any:
    """nodes/host/comfy/model_files.py."""
    import sys

    return sys.modules[f"{PACK}.nodes.host.comfy.model_files"]


def test_the_bundled_model_is_always_there(files: Any) -> None:
    assert files.model_names() == ["tiny"]
    assert files.unet_names() == ["tiny/keyframe.safetensors", "tiny/interpolation.safetensors"]
    assert files.movq_names() == ["tiny/movq.safetensors"]
    assert files.text_names() == ["tiny"]
    assert files.projection_names() == ["auto"]
    assert files.conditioning_names() == []
    for file in (files.unet_file("tiny/keyframe.safetensors"), files.movq_file("tiny/movq.safetensors")):
        assert file.is_file()
    assert (files.model_location("tiny") / "config.json").is_file()


def test_model_folders_are_found_by_their_files(files: Any, folders: Folders) -> None:
    """Ours by keyframe.safetensors, official ones by their U-Net, also inside a folder `weights`."""
    for name in ("b/keyframe.safetensors", "a/weights/t2v.pt", "c/kandinsky_video.safetensors", "d/other.pt", "t2v.pt"):
        folders.add_file(f"models/diffusion_models/{name}")
    assert files.model_names() == ["tiny", "a", "b", "c"]
    assert files.model_location("b") == folders.base / "models/diffusion_models/b"


@pytest.mark.parametrize("name", ["gone", "../b", ""])
def test_a_missing_model_is_named(files: Any, folders: Folders, name: str) -> None:
    folders.add_file("models/diffusion_models/b/keyframe.safetensors")
    with pytest.raises(ValueError, match="is not there: put its folder") as refusal:
        files.model_location(name)
    assert repr(name) in str(refusal.value)
    assert "or take 'tiny'" in str(refusal.value)


def test_files_are_found_in_their_folders(files: Any, folders: Folders) -> None:
    unet = folders.add_file("models/diffusion_models/kandinsky/t2v.pt")
    vae = folders.add_file("models/vae/movq.pt")
    assert files.unet_file("kandinsky/t2v.pt") == unet
    assert files.movq_file("movq.pt") == vae
    for lookup, sentence in ((files.unet_file, "unet_name 'x.pt'"), (files.movq_file, "vae_name 'x.pt'")):
        with pytest.raises(ValueError, match=f"{sentence} is not there: put it into"):
            lookup("x.pt")


def test_a_text_encoder_is_a_folder_with_a_tokenizer(files: Any, folders: Folders) -> None:
    folders.add_file("models/text_encoders/flan-ul2/tokenizer.json")
    folders.add_file("models/text_encoders/clip_l.safetensors")
    assert files.text_names() == ["tiny", "flan-ul2"]
    assert files.text_location("flan-ul2") == folders.base / "models/text_encoders/flan-ul2"
    with pytest.raises(ValueError, match="text_encoder 'clip_l' is not there"):
        files.text_location("clip_l")


def test_the_one_projection_that_is_there_is_taken(files: Any, folders: Folders) -> None:
    folders.add_file("models/text_encoders/flan-ul2/tokenizer.json")
    assert files.check_text_files("tiny", "auto") is None
    with pytest.raises(ValueError, match=r"no t5_projections\.pt or kandinsky_video\.pt there"):
        files.check_text_files("flan-ul2", "auto")
    first = folders.add_file("models/text_encoders/t5_projections.pt")
    assert files.projection_file("auto") == first
    second = folders.add_file("models/diffusion_models/kandinsky_video.pt")
    with pytest.raises(ValueError, match=r"'auto' could be t5_projections\.pt or kandinsky_video\.pt"):
        files.projection_file("auto")
    assert files.projection_file("kandinsky_video.pt") == second


def test_the_vae_of_a_unet_is_beside_it_or_in_vae(files: Any, folders: Folders) -> None:
    folder = folders.add_file("models/diffusion_models/own/keyframe.safetensors").parent
    assert files.movq_beside(folder) is None
    official = folders.add_file("models/vae/video_movq.pt")
    assert files.movq_beside(folder) == official
    beside = folders.add_file("models/diffusion_models/own/movq.safetensors")
    assert files.movq_beside(folder) == beside


@pytest.mark.parametrize("name", ["", ".hidden", "../secret", "a/b", "a/"])
def test_a_conditioning_stays_in_its_folder(files: Any, name: str) -> None:
    with pytest.raises(ValueError, match="name must be a plain file name"):
        files.conditioning_file(name)


def test_conditionings_are_listed_newest_first(files: Any, folders: Folders) -> None:
    import os

    for age, name in enumerate(("new", "old")):
        file = folders.add_file(f"output/conditioning/{name}.safetensors")
        os.utime(file, (1_000_000 - age, 1_000_000 - age))
    (file.parent / "gone.safetensors").symlink_to(file.parent / "nothing")
    (file.parent / "folder.safetensors").mkdir()
    assert files.conditioning_names() == ["new.safetensors", "old.safetensors"]
    assert files.existing_conditioning("old") == Path(folders.base / "output/conditioning/old.safetensors")
    with pytest.raises(ValueError, match="name 'gone' is not there: FusionFrames Save Conditioning writes files"):
        files.existing_conditioning("gone")
