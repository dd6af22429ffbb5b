"""`python -m training.plan`: what it prints of a stage, and its errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fusionframes_core.models.unet.unet import UNet
from fusionframes_core.presets import TINY
from training import plan
from training.accounting import card_memory
from training.accounting.network_steps import NetworkStep
from training.accounting.traced_step import Sizes, Trace, TracedAs
from training.plan import CONFIGS, STAGES, open_plan


def test_every_shipped_config_of_a_stage_has_a_plan() -> None:
    """Those of the paper and of LoRA, whose files and data need not be there."""
    for name in ("paper_keyframes", "paper_interp", "paper_decoder", "artist_lora", "tiny_lora_ring"):
        assert (CONFIGS / f"{name}.yaml").is_file()
        assert open_plan(name, None, []).steps > 0
    assert open_plan("paper_keyframes", None, ["--train.batch_size", "3"]).setting.clips == 3


def trained(*options: str) -> int:
    """Number of weights that a keyframe stage of `parts: all` is planned to train."""
    with torch.device("meta"):
        model = open_plan("tiny_keyframes_13", None, options).step("fp32").build()
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def test_parts_of_a_keyframe_stage_are_planned_as_they_train() -> None:
    """All weights are those of the whole U-Net; the temporal ones are fewer."""
    with torch.device("meta"):
        every = sum(weight.numel() for weight in UNet(TINY.keyframe).parameters())
    assert trained("--parts", "temporal") < trained() == every


def traced(step: NetworkStep, how: TracedAs) -> Trace:
    """A step that is not run: 2 GB beside 1 GB of weights, a quarter of them with checkpointing."""
    peak = int(2e9) // (4 if how.checkpointing else 1)
    return Trace(Sizes(10**7, 4 * 10**7, 25 * 10**7, 10**9, 10**8), peak, 10**12)


def test_a_plan_says_what_a_stage_takes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """The parts add up, more cards are faster, and what fits is said."""
    monkeypatch.setattr(card_memory, "trace_step", traced)
    assert plan.main(["tiny_keyframes", "--cards", "2", "--memory", "8", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["total"] == pytest.approx(sum(found["memory"].values()))
    assert found["fits"]["changes"] == []
    assert found["speed"]["8"]["days"] == pytest.approx(found["speed"]["64"]["days"] * 8)
    assert plan.main(["tiny_lora_ring", "--cards", "1", "--memory", "3", "--tflops", "100"]) == 0
    assert "fits a card of 3 GB with train.activation_checkpointing: true" in capsys.readouterr().out
    assert plan.main(["tiny_lora_ring", "--memory", "0.5"]) == 0
    said = capsys.readouterr().out
    assert "no setting fits a card of 0.5 GB" in said
    assert "counted on the meta device, not measured" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "CONFIG must be a YAML file, or one of"),
        (["tiny_image"], "--stage must say which of lora, decoder, interp, keyframes"),
        (["tiny_interp", "--architecture", "masked"], "architecture must be \"groups\" to be planned; got 'masked'"),
        (["paper_keyframes", "--cards", "0"], "--cards must be at least 1; got 0"),
        (["paper_keyframes", "--train.bach_size", "2"], "did you mean train.batch_size?"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], words: str, capsys: pytest.CaptureFixture) -> None:
    assert plan.main(arguments) == 2
    assert words in capsys.readouterr().err


def test_stages_are_told_by_a_files_name(tmp_path: Path) -> None:
    """A file of any other name with --stage."""
    path = tmp_path / "mine.yaml"
    path.write_text((CONFIGS / "paper_decoder.yaml").read_text())
    assert open_plan(str(path), "decoder", []).name == "decoder"
    assert next(iter(STAGES)) == "lora", "a LoRA's file may be named after the U-Net too"
