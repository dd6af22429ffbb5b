"""Folders of official files: `kandinsky_video.pt`, ... (1.0) or `t2v.pt`, ... (1.1), and a Flan-UL2 beside them.

Weights stay under their official names in the files; they are renamed as they are loaded. Files may be PyTorch's or
safetensors, in the folder itself or in its `weights`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..config import ModelConfig, TextEncoderConfig, from_dict
from ..errors import CheckpointError, one_sentence
from ..presets import KANDINSKY_VIDEO_1_0, KANDINSKY_VIDEO_1_1
from .architecture import Hints, text_config
from .checkpoint_info import CheckpointInfo, identify, identify_file, require_kind
from .component import KINDS, Component, ComponentKind, StoredModel, build
from .state_dict import Sources
from .weights_file import PICKLED, SAFETENSORS, WeightsFile, open_weights

VERSION_PRESETS = {"1.0": KANDINSKY_VIDEO_1_0, "1.1": KANDINSKY_VIDEO_1_1}
REPOSITORIES = {"1.0": "ai-forever/KandinskyVideo", "1.1": "ai-forever/KandinskyVideo_1_1"}
PROJECTIONS = "projections"  # 1.1's file of the text projections; 1.0 has them in the keyframe U-Net's file
OFFICIAL_FILES: dict[str, dict[str, str]] = {
    version: {name: kind.official_stems[version] for name, kind in KINDS.items() if version in kind.official_stems}
    for version in VERSION_PRESETS
}
OFFICIAL_FILES["1.1"][PROJECTIONS] = "t5_projections"
"""Version → what a file is for → its name without the suffix."""

TEXT_REPOSITORY, TEXT_FOLDERS = "google/flan-ul2", ("text_encoder", "flan-ul2")
CONFIGS_FILE, OWN_SECTION = "configs.json", "fusionframes"


@dataclass(frozen=True)
class IdentifiedFile:
    """A weights file and what it is."""

    file: WeightsFile
    info: CheckpointInfo

    @classmethod
    def open(cls, path: Path) -> IdentifiedFile:
        """Look at a file. Raises CheckpointError when it cannot be read."""
        file = open_weights(path)
        return cls(file, identify_file(file))

    @property
    def sources(self) -> Sources:
        """The network's tensors."""
        return [(self.file, self.info.names)]

    @property
    def text(self) -> Sources:
        """The text encoder's tensors that lie in the same file: null embedding, projection."""
        return [(self.file, self.info.text)]


@dataclass(frozen=True)
class T5Files:
    """T5 (Flan-UL2) in a folder: its files, often several, as one model."""

    folder: Path
    files: list[WeightsFile]
    names: Mapping[str, str]  # ours → the files'

    @property
    def sources(self) -> Sources:
        """Each file with what it holds of T5's encoder."""
        return [
            (file, {ours: theirs for ours, theirs in self.names.items() if theirs in file.entries})
            for file in self.files
        ]

    def config(self, text: Sources, configs: Mapping[str, Any], like: TextEncoderConfig) -> TextEncoderConfig:
        """The text encoder's configuration with a projection from `text`, its choices as `like` has them."""
        shapes = shapes_of(self.sources) | shapes_of(text)
        tokens = int(configs.get("text_encoder", {}).get("tokens_length", like.max_tokens))
        return text_config(shapes, self._feed_forward(), tokens, like)

    def _feed_forward(self) -> str | None:
        """What T5's own config.json calls its feed-forward."""
        path = self.folder / "config.json"
        return json.loads(path.read_bytes()).get("feed_forward_proj") if path.is_file() else None


def official_version(folder: Path) -> str | None:
    """The version whose files a folder has, by the keyframe U-Net's; None: not an official folder."""
    found = [version for version, files in OFFICIAL_FILES.items() if find_file(folder, files["keyframe"])]
    return found[0] if found else None


def find_file(folder: Path, stem: str) -> Path | None:
    """The weights file of that name, whatever its suffix."""
    for place in (folder, folder / "weights"):
        for suffix in (*SAFETENSORS, *PICKLED):
            if (place / f"{stem}{suffix}").is_file():
                return place / f"{stem}{suffix}"
    return None


def open_official_folder(folder: Path, text_encoder: str | Path | None = None) -> StoredModel:
    """Look at every file of an official folder. Raises CheckpointError that names the first that is missing or wrong.

    `text_encoder` is the folder of Flan-UL2; None: one of TEXT_FOLDERS inside `folder`.
    """
    version = official_version(folder)
    if version is None:
        raise CheckpointError(f"{folder} holds no official files: neither kandinsky_video.pt nor t2v.pt")
    found = {name: _open(folder, version, name) for name in OFFICIAL_FILES[version]}
    configs = read_configs(folder)
    t5 = open_t5(_text_folder(folder, text_encoder))
    config = _config(version, found, configs, t5)
    encoder = Component(KINDS["text_encoder"], config, _text_sources(config.text, found, t5), folder, (), t5.folder)
    networks = {
        name: Component(KINDS[name], config, file.sources, folder, text=file.text)
        for name, file in found.items()
        if name != PROJECTIONS
    }
    return StoredModel(config, {encoder.kind.name: encoder, **networks})


def require_files(folder: Path) -> None:
    """Raise CheckpointError that names the first official file that a folder lacks, without opening any."""
    version = official_version(folder)
    for stem in OFFICIAL_FILES.get(version or "", {}).values():
        if find_file(folder, stem) is None:
            raise _missing(folder, str(version), stem)


def download_hint(file_name: str) -> str:
    """Where a file of an official name can be had, as the end of a sentence; "" for any other name."""
    stem = Path(file_name).stem
    found = [version for version, files in OFFICIAL_FILES.items() if stem in files.values()]
    places = " or ".join(f"https://huggingface.co/{REPOSITORIES[version]}" for version in found)
    return f"; it can be had at {places}" if found else ""


def _missing(folder: Path, version: str, stem: str) -> CheckpointError:
    where = f"https://huggingface.co/{REPOSITORIES[version]}"
    return CheckpointError(f"no {stem}.pt in {folder}: KandinskyVideo {version} needs it; it can be had at {where}")


def _open(folder: Path, version: str, name: str) -> IdentifiedFile:
    stem = OFFICIAL_FILES[version][name]
    path = find_file(folder, stem)
    if path is None:
        raise _missing(folder, version, stem)
    found = IdentifiedFile.open(path)
    info = found.info
    if name == PROJECTIONS:
        if info.kind != PROJECTIONS:
            raise CheckpointError(f"{path} is {info.phrase}, but the text projections of 1.1 were expected")
        return found
    require_kind(KINDS[name], found.file, info)
    if KINDS[name].is_unet and info.version not in (None, version):
        raise CheckpointError(f"{path} is {info.phrase}, but one of KandinskyVideo {version} was expected")
    return found


def read_configs(folder: Path) -> dict[str, Any]:
    """What `configs.json` of an official folder says; {} without one. Raises CheckpointError when it is no object."""
    path = folder / CONFIGS_FILE
    if not path.is_file():
        return {}
    with one_sentence(f"{path} is not the configuration of official files"):
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError("it must be a JSON object")
        return content


def own_config(configs: Mapping[str, Any]) -> ModelConfig | None:
    """The whole configuration that `save_official_folder` wrote into configs.json; None in a released one."""
    if OWN_SECTION not in configs:
        return None
    with one_sentence(f"{CONFIGS_FILE} is not the configuration of a model"):
        return from_dict(ModelConfig, configs[OWN_SECTION])


def hints_of(configs: Mapping[str, Any], kind: ComponentKind) -> Hints:
    """What configs.json says of what shapes do not tell; its U-Nets' arguments lie in `configs`, or bare."""
    given = configs.get(kind.configs_section, {}) if kind.configs_section else {}
    given = given.get("configs", given)
    return Hints(**{name: int(given[name]) for name in ("head_dim", "groups") if name in given})


def read_network_config(
    kind: ComponentKind, found: IdentifiedFile, configs: Mapping[str, Any], version: str | None = None
) -> Any:
    """The configuration of a network, read off its file; of a U-Net in a folder of a known `version` as that one's.

    Raises ValueError, KeyError for an unknown architecture.
    """
    assert kind.read_architecture is not None
    known = version if version and kind.is_unet else found.info.version
    return kind.read_architecture(shapes_of(found.sources), known, hints_of(configs, kind))


def lone_config(found: IdentifiedFile, kind: ComponentKind) -> ModelConfig:
    """The configuration of the model that a single file belongs to: the preset of its version with the file's sizes.

    Raises CheckpointError for a file that tells neither.
    """
    file, info = found.file, found.info
    configs = read_configs(file.path.parent)
    own = own_config(configs)
    if own is not None:
        return own
    version = info.version or file.metadata.get("version") or (None if kind.is_unet else "1.0")
    if version not in VERSION_PRESETS:
        raise CheckpointError(f"{file.path} says no sizes: {_CONFIG_NEEDED}")
    with one_sentence(f"{file.path} has an unknown architecture"):
        if "config" in file.metadata:
            network: Any = from_dict(kind.config_class, json.loads(file.metadata["config"]))
        else:
            network = read_network_config(kind, found, configs)
            _require_official_choices(file, network)
        return replace(VERSION_PRESETS[version], **{kind.config_field: network})


_CONFIG_NEEDED = "put the config.json of its model folder beside it"


def _require_official_choices(file: WeightsFile, network: Any) -> None:
    """Raise CheckpointError where the official choices, which leave no trace in a file, cannot be this network's."""
    with one_sentence(f"{file.path} says not all of its sizes, and the official ones do not fit; {_CONFIG_NEEDED}"):
        build(network, device="meta")
        if getattr(network, "patch_size", 1) != 1:
            raise ValueError(f"patch_size is 1; got {network.patch_size}")


def _config(version: str, found: Mapping[str, IdentifiedFile], configs: dict[str, Any], t5: T5Files) -> ModelConfig:
    own = own_config(configs)
    if own is not None:
        return own
    with one_sentence(f"the official files of {version} have an unknown architecture"):
        preset = VERSION_PRESETS[version]
        changes: dict[str, Any] = {"text": t5.config(_all_text(found), configs, preset.text)}
        for name in found.keys() - {PROJECTIONS}:
            changes[name] = read_network_config(KINDS[name], found[name], configs, version)
        return replace(preset, **changes)


def _all_text(found: Mapping[str, IdentifiedFile]) -> Sources:
    return [source for file in found.values() for source in file.text]


def _text_sources(config: TextEncoderConfig, found: Mapping[str, IdentifiedFile], t5: T5Files) -> Sources:
    """Where each tensor of the text encoder lies; what the config has no place for is left."""
    own_head = config.interpolation_head != "shared"
    projections = [
        (file, {ours: theirs for ours, theirs in names.items() if own_head or not ours.startswith("interpolation.")})
        for file, names in _all_text(found)
    ]
    return [*t5.sources, *projections]


def shapes_of(sources: Sources) -> dict[str, tuple[int, ...]]:
    """Shapes under our names."""
    return {ours: file.entries[theirs].shape for file, names in sources for ours, theirs in names.items()}


def _text_folder(folder: Path, text_encoder: str | Path | None) -> Path:
    places = [Path(text_encoder)] if text_encoder is not None else [folder / name for name in TEXT_FOLDERS]
    for place in places:
        if place.is_dir():
            return place
    raise CheckpointError(
        f"no text encoder at {places[0]}: it must be a folder with {TEXT_REPOSITORY} (its encoder's weights, "
        f"config.json and tokenizer.json), which can be had at https://huggingface.co/{TEXT_REPOSITORY}"
    )


def open_t5(folder: Path) -> T5Files:
    """T5's files as one model. Raises CheckpointError when the folder holds none."""
    paths = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not paths:
        raise CheckpointError(f"no weights in {folder}: neither *.safetensors nor pytorch_model*.bin")
    files = [open_weights(path) for path in paths]
    info = identify({name: shape for file in files for name, shape in file.shapes.items()})
    if info.kind != "t5":
        raise CheckpointError(f"{folder} holds {info.phrase}, but a T5 text encoder (Flan-UL2) was expected")
    return T5Files(folder, files, info.names)
