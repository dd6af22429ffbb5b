"""The table of components agrees with itself and with what is asked of it: another component is another entry."""

from __future__ import annotations

import dataclasses

import pytest

from fusionframes_core.checkpoints.checkpoint_info import TITLES, component_of
from fusionframes_core.checkpoints.component import COMPONENTS, KINDS, UNETS, ModelParts, build, component_names
from fusionframes_core.checkpoints.names import RULES
from fusionframes_core.checkpoints.official_folder import OFFICIAL_FILES, PROJECTIONS
from fusionframes_core.config import ModelConfig
from fusionframes_core.presets import KANDINSKY_VIDEO_1_1, TINY


def test_every_entry_describes_a_field_of_the_model() -> None:
    fields = {field.name for field in dataclasses.fields(ModelConfig)}
    for name, kind in KINDS.items():
        assert kind.name == name
        assert kind.config_field in fields
        assert isinstance(getattr(KANDINSKY_VIDEO_1_1, kind.config_field), kind.config_class)


def test_a_loaded_model_has_a_place_for_every_component() -> None:
    places = {field.name for field in dataclasses.fields(ModelParts)}
    assert places == {"config", *component_names(KANDINSKY_VIDEO_1_1)}
    assert component_names(TINY) == COMPONENTS == ("text_encoder", "keyframe", "interpolation", "movq")
    assert UNETS == ("keyframe", "interpolation")


@pytest.mark.parametrize("name", KINDS)
def test_every_network_is_built_from_its_configuration(name: str) -> None:
    network = build(getattr(TINY, KINDS[name].config_field) or TINY.movq, device="meta")
    assert type(network) is KINDS[name].network


def test_official_files_come_from_the_table_and_have_rules() -> None:
    for version, files in OFFICIAL_FILES.items():
        for name in files.keys() - {PROJECTIONS}:
            assert KINDS[name].official_stems[version] == files[name]
            assert (component_of(KINDS[name].file_kind or name), version) in RULES


def test_every_kind_of_file_has_a_title() -> None:
    assert set(TITLES) == {"text_encoder", "keyframe", "image", "interpolation", "movq", "t5", "projections"}
