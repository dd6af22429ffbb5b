"""Titles, tooltips, translations and help pages: everything has one name and is explained, in every language."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fusionframes_core.config import TextEncoderConfig
from fusionframes_core.presets import KANDINSKY_VIDEO_1_0, KANDINSKY_VIDEO_1_1, TINY
from fusionframes_core.settings import size_multiple

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "web" / "docs"
LANGUAGES = {"en": "[A-Za-z]", "zh": "[一-鿿]", "ru": "[А-я]"}
# Input ids that workflows hold → the names of the same things in ComfyUI's own nodes and in well-known packs.
NAMES = {
    ("SampleKeyframes", "text"): "positive",
    ("SampleKeyframes", "sampler"): "sampler_name",
    ("SampleKeyframes", "num_frames"): "num_keyframes",
    ("Interpolate", "text"): "positive",
    ("Interpolate", "sampler"): "sampler_name",
    ("Interpolate", "perturbation"): "noise_augmentation",
    ("ImageToVideo", "noise_augmentation"): "noise_augmentation",
    ("PrepareInterpolation", "perturbation"): "noise_augmentation",
    ("SaveConditioning", "text"): "conditioning",
    ("ExtendVideo", "window"): "context_length",
    ("ExtendVideo", "overlap"): "context_overlap",
    ("Decode", "chunk"): "temporal_size",
    ("Decode", "overlap"): "temporal_overlap",
    ("EncodeVideo", "every"): "select_every_nth",
    ("LoadMoVQ", "movq_name"): "vae_name",
}
LONGEST = 300  # letters of a tooltip
WIDEST = 40  # letters of a word of a help page: the panel is about 420 pixels wide and breaks lines at spaces only


def schemas(nodes: ModuleType) -> dict[str, Any]:
    """Every node's schema by its id without the prefix."""
    found = {schema.node_id: schema for schema in (node.define_schema() for node in nodes.NODES)}
    assert len(found) == len(nodes.NODES)
    return {node_id.removeprefix("FusionFrames_"): schema for node_id, schema in found.items()}


def shown(given: Any) -> str:
    """What an input is called on the screen."""
    return given.display_name or given.id


def texts(schema: Any) -> Iterator[str]:
    """Every sentence about a node."""
    yield schema.description
    for place in (*schema.inputs, *schema.outputs):
        yield place.tooltip


def test_titles_are_unique_and_begin_with_the_pack(nodes: ModuleType) -> None:
    titles = [schema.display_name for schema in schemas(nodes).values()]
    assert len(set(titles)) == len(titles)
    assert all(title.startswith("FusionFrames ") for title in titles)


def test_a_search_for_the_words_of_an_id_finds_the_node(nodes: ModuleType) -> None:
    """Ids stay as saved workflows hold them; where a title has other words, the id's are search aliases."""
    for name, schema in schemas(nodes).items():
        known = [re.sub(r"\W", "", words.lower()) for words in (*schema.search_aliases, schema.display_name)]
        assert any(name.lower() in words for words in known), f"{name}: {known}"


def test_inputs_have_the_names_that_comfyui_users_know(nodes: ModuleType) -> None:
    known = schemas(nodes)
    inputs = {(name, given.id): shown(given) for name, schema in known.items() for given in schema.inputs}
    assert {key: inputs[key] for key in NAMES} == NAMES
    for name, schema in known.items():
        names = [shown(given) for given in schema.inputs]
        assert len(set(names)) == len(names), name


def test_everything_is_explained_in_a_sentence(nodes: ModuleType) -> None:
    for name, schema in schemas(nodes).items():
        for text in texts(schema):
            assert text, name
            assert len(text) <= LONGEST, f"{name}: {len(text)} letters: {text}"
            assert re.fullmatch(r"[A-Z'].*[.)]", text), f"{name}: {text}"


def test_the_old_name_of_default_is_only_an_alias(nodes: ModuleType) -> None:
    """Old workflows hold 'record': it stays the last choice."""
    for name, schema in schemas(nodes).items():
        for given in schema.inputs:
            if given.id in ("sampler", "scheduler"):
                assert (given.default, given.options[0], given.options[-1]) == ("default", "default", "record")
                assert "'record', at the end, is the old name of 'default'" in given.tooltip
            else:
                assert "record" not in given.tooltip, f"{name}: {given.id}"


def read_locale(language: str) -> dict[str, Any]:
    return json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text("utf-8"))


def test_english_repeats_the_schemas(nodes: ModuleType) -> None:
    expected = {
        schema.node_id: {
            "display_name": schema.display_name,
            "description": schema.description,
            "inputs": {given.id: {"name": shown(given), "tooltip": given.tooltip} for given in schema.inputs},
            "outputs": {
                str(index): {"name": made.display_name, "tooltip": made.tooltip}
                for index, made in enumerate(schema.outputs)
            },
        }
        for schema in schemas(nodes).values()
    }
    assert read_locale("en") == expected


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_says_everything(language: str) -> None:
    """The same keys everywhere, and sentences in the language's own letters."""
    english, translated = read_locale("en"), read_locale(language)
    assert keys(translated) == keys(english)
    for place, text in leaves(translated):
        assert text, place
        if not place.endswith("name"):
            assert re.search(LANGUAGES[language], text), f"{place}: {text}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_figures_are_the_same_in_every_language(language: str) -> None:
    """A sentence that was changed in one language was changed in all; Russian has decimal commas, Chinese 10⁸ as 亿."""

    def figures(text: str) -> set[float]:
        if language == "ru":
            text = re.sub(r"(\d),(\d)", r"\1.\2", text)
        text = re.sub(r"(\d+) 亿", lambda found: f"{int(found[1]) / 10:g}", text)
        return {float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)}

    english, translated = (dict(leaves(read_locale(name))) for name in ("en", language))
    assert {place: figures(text) for place, text in translated.items()} == {
        place: figures(text) for place, text in english.items()
    }


def leaves(tree: dict[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}/{key}")
        else:
            yield f"{path}/{key}", value


def keys(tree: dict[str, Any]) -> set[str]:
    return {path for path, _ in leaves(tree)}


@pytest.mark.parametrize("language", LANGUAGES)
def test_titles_are_unique_in_every_language(language: str) -> None:
    titles = [node["display_name"] for node in read_locale(language).values()]
    assert len(set(titles)) == len(titles)


def test_help_pages_name_every_input_and_output(nodes: ModuleType) -> None:
    known = schemas(nodes)
    assert {file.stem for file in PAGES.glob("*.md")} == {f"FusionFrames_{name}" for name in known}
    for name, schema in known.items():
        page = (PAGES / f"FusionFrames_{name}.md").read_text("utf-8")
        assert page.startswith(f"# {schema.display_name}\n")
        listed = re.findall(r"^- ((?:\*\*\w+\*\*(?:, )?)+):", page, re.MULTILINE)
        explained = {found for line in listed for found in re.findall(r"\w+", line)}
        expected = {*map(shown, schema.inputs), *(made.display_name for made in schema.outputs)}
        assert explained == expected, name


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_help_pages_fit_the_panel(page: Path) -> None:
    """No tables, and no word that cannot be broken."""
    text = re.sub(r"\]\([^)]*\)", "]", page.read_text("utf-8"))
    text = re.sub(r"</?code>", "", text).replace("<wbr>", " ")  # where a word may be broken
    assert not re.search(r"^\|", text, re.MULTILINE)
    assert [word for word in text.split() if len(word) > WIDEST] == []


def explanations(nodes: ModuleType) -> dict[str, str]:
    """Every text about nodes: help pages and tooltips, by where they stand."""
    found = {page.name: re.sub(r"\s+", " ", page.read_text("utf-8")) for page in PAGES.glob("*.md")}
    return found | {name: " ".join(texts(schema)) for name, schema in schemas(nodes).items()}


def parameters(config: TextEncoderConfig) -> int:
    """Of a gated T5 encoder, but for its norms and its position table."""
    attention, feed_forward = 4 * config.d_model * config.num_heads * config.d_kv, 3 * config.d_model * config.d_ff
    return config.vocab_size * config.d_model + config.num_layers * (attention + feed_forward)


def test_figures_are_those_of_the_models(nodes: ModuleType) -> None:
    """Wherever a figure stands it is the presets'."""
    figures = {
        r"([\d.]+) billion": {f"{parameters(KANDINSKY_VIDEO_1_0.text) / 1e9:.1f}"},
        r"KandinskyVideo: of (\d+)": {str(size_multiple(KANDINSKY_VIDEO_1_0))},
        r"multiples of (\d+)": {str(size_multiple(model)) for model in (TINY, KANDINSKY_VIDEO_1_1)},
        r"pass(?:\.| takes\.) 0 is the model's own: (\d+) for `?tiny": {str(TINY.interpolation_schedule.steps)},
        r"(\d+) for KandinskyVideo 1\.1, 50": {str(KANDINSKY_VIDEO_1_1.interpolation_schedule.steps)},
        r"for KandinskyVideo 1\.1, (\d+) for 1\.0": {str(KANDINSKY_VIDEO_1_0.interpolation_schedule.steps)},
        r"(\d+) for (?:KandinskyVideo )?1\.0, 12 for 1\.1": {str(KANDINSKY_VIDEO_1_0.num_frames)},
        r"15 for (?:KandinskyVideo )?1\.0, (\d+) for 1\.1": {str(KANDINSKY_VIDEO_1_1.num_frames)},
        r"([\d.]+) for `?tiny`?, (?:15|6) for": {str(TINY.num_frames), f"{1 + TINY.guidance:g}"},
        r"tiny`?, ([\d.]+) for KandinskyVideo\. (?:The paper|\(The paper)": {f"{1 + KANDINSKY_VIDEO_1_0.guidance:g}"},
        r"with: (\d+) for KandinskyVideo 1\.1, 16 for others": {str(KANDINSKY_VIDEO_1_1.movq.decode_chunk)},
        r"1\.1, (\d+) for others": {str(TINY.movq.decode_chunk), str(KANDINSKY_VIDEO_1_0.movq.decode_chunk)},
        r"(\d+) for `?tiny`?, 50 for KandinskyVideo": {str(TINY.keyframe_schedule.steps)},
        r"noise \(0 to (\d+)\) are put on the given": {str(TINY.max_perturbation)},
    }
    for pattern, allowed in figures.items():
        found = {(name, figure) for name, text in explanations(nodes).items() for figure in re.findall(pattern, text)}
        assert found, pattern
        assert {figure for _, figure in found} <= allowed, f"{pattern}: {sorted(found)}"
