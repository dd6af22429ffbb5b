"""What cards must hold is counted: streamed weights, a keyframe step of 4.14 B parameters, decoding 241 frames."""

from __future__ import annotations

import pytest
import torch

from benchmarks.memory import FULL, SMALL, decode_plans, decoding, main, measure
from fusionframes_core.models.casting import FP8

GB = 10**9


def test_streaming_needs_less() -> None:
    there, streamed = (measure(SMALL, torch.bfloat16, way) for way in (False, True))
    assert there.weights == there.resident == streamed.weights
    assert streamed.resident < 0.2 * there.weights
    assert there.weights < there.most
    assert streamed.most < there.most - 0.4 * there.weights


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "streamed", "bar"), [(torch.bfloat16, True, 10), (FP8, False, 6)])
def test_a_keyframe_step_at_full_size_fits(dtype: torch.dtype, streamed: bool, bar: float) -> None:
    need = measure(FULL, dtype, streamed)
    assert need.weights > 4.1 * GB
    assert need.most < bar * GB


def test_activations_of_a_keyframe_step_are_what_a_gpu_measured() -> None:
    need = measure(FULL, torch.bfloat16, False)  # one H100: 1.1 GB over the weights
    assert 1.0 * GB < need.most - need.weights < 1.2 * GB


@pytest.mark.parametrize(("card", "bar"), [("12 GB", 5), ("12 GB, `--decode-chunk 2`", 2.5), ("4 GB", 3)])
def test_decoding_241_frames_fits(card: str, bar: float) -> None:
    plan = decode_plans()[card]
    counted = decoding(FULL, plan)
    assert counted < plan.bytes < bar * GB
    assert plan.bytes < 1.6 * counted, "the plan is no more careful than it must be"


@pytest.mark.slow
def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--small"])
    out = capsys.readouterr().out
    assert out.count("streamed") == 2
    assert out.count("--decode-chunk") == 2
