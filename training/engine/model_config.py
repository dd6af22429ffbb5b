"""Which model a stage trains: the name of a preset, or the config.json of a model of any size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from fusionframes_core.checkpoints.model_folder import CONFIG_FILE
from fusionframes_core.checkpoints.open_model import load_config
from fusionframes_core.config import ModelConfig
from fusionframes_core.presets import PRESETS


def model_config(preset: str) -> ModelConfig:
    """The preset of that name, or the configuration that a model folder or its config.json holds.

    Raises ValueError where it is neither.
    """
    if preset in PRESETS:
        return PRESETS[preset]
    path = Path(preset)
    folder = path.parent if path.name == CONFIG_FILE else path
    if not (folder / CONFIG_FILE).is_file():
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, or a {CONFIG_FILE}; got {preset!r}")
    return load_config(folder)


class PresetStage(ABC):
    """A training stage as a command: `run` resolves the option `preset`, everything below has the configuration."""

    preset: str

    def run(self) -> None:
        """Train the model that `preset` names. Raises ValueError for an unknown one."""
        self.train_model(model_config(self.preset))

    @abstractmethod
    def train_model(self, config: ModelConfig) -> None:
        """Train the model of `config` and write its weights to the run's folder; `preset` has no say here."""
