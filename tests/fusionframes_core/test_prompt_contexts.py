"""Contexts of one generation: the text encoder comes once, and its null contexts stand where no text is read."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from fusionframes_core.checkpoints.offload import OffloadedModels
from fusionframes_core.checkpoints.open_model import open_model
from fusionframes_core.pipeline import FusionFramesPipeline
from fusionframes_core.prompt_contexts import PromptContexts, check_prompts
from fusionframes_core.settings import GenerationSettings, ResolvedSettings

PROMPTS = ["a large red circle moving left", "a blue star"]


@pytest.fixture
def models(micro_folder: Path, monkeypatch: pytest.MonkeyPatch) -> OffloadedModels:
    """Models on the disk; `models.asked` are those that were asked for, in their order."""
    found = OffloadedModels.of_model(open_model(micro_folder), torch.float32, "cpu", "disk")
    asked, stage = [], found.stage

    def counted(name: str) -> object:
        asked.append(name)
        return stage(name)

    monkeypatch.setattr(found, "stage", counted)
    monkeypatch.setattr(found, "asked", asked, raising=False)
    return found


def settings(models: OffloadedModels, **given: object) -> ResolvedSettings:
    return GenerationSettings(**given).resolve(models.config)


def test_the_text_encoder_comes_once_for_everything(models: OffloadedModels) -> None:
    contexts = PromptContexts(models)
    texts = contexts.encode_all(PROMPTS, settings(models, negative_prompt="blue"))
    contexts.keyframe_pair(texts.keyframes.conditional, None)
    contexts.interpolation_pair(None, 2)
    assert models.asked == ["text_encoder"]


def test_null_contexts_fetch_the_encoder_where_nothing_was_encoded(models: OffloadedModels) -> None:
    contexts = PromptContexts(models)
    for _ in range(2):
        assert contexts.interpolation_pair(None, 3).batch == 3
    assert models.asked == ["text_encoder"]


def test_no_negative_prompt_is_the_null_context(models: OffloadedModels) -> None:
    contexts = PromptContexts(models)
    null = contexts.encode([""], "keyframes").context[:, :1]
    plain = contexts.encode_all(PROMPTS, settings(models)).keyframes
    torch.testing.assert_close(plain.unconditional.context[:, :1], null.expand(2, -1, -1))
    avoided = contexts.encode_all(PROMPTS, settings(models, negative_prompt="blue")).keyframes
    assert torch.equal(avoided.conditional.context, plain.conditional.context)
    assert not torch.allclose(avoided.unconditional.context[:, :1], null, atol=1e-3)


@pytest.mark.parametrize("reads", [False, True])
def test_interpolation_reads_the_prompt_where_its_model_does(models: OffloadedModels, reads: bool) -> None:
    """1.1 does; of 1.0 both predictions have the null context, whatever text there is."""
    models.config = dataclasses.replace(models.config, interpolation_text=reads)
    contexts = PromptContexts(models)
    texts = contexts.encode_all(PROMPTS, settings(models))
    assert (texts.interpolation is not None) == reads
    pair = contexts.interpolation_pair(contexts.encode(PROMPTS, "interpolation"), 2)
    assert torch.equal(pair.conditional.context, pair.unconditional.context) != reads


@pytest.mark.parametrize("prompt", [None, 3, [], ["a", None]])
def test_a_prompt_that_is_no_text_is_refused(micro_folder: Path, prompt: object) -> None:
    with pytest.raises(ValueError, match="prompt must be a string or a list of strings"):
        check_prompts(prompt)
    with pytest.raises(ValueError, match="prompt must be a string or a list of strings"):
        FusionFramesPipeline.from_pretrained(micro_folder)(prompt)  # type: ignore[arg-type]


def test_one_prompt_and_a_list_of_one_are_the_same() -> None:
    assert check_prompts("a") == check_prompts(["a"]) == ["a"]
