"""Bytes that are counted are those worked out by hand, and every kind of stage runs on meta tensors."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.traffic import AttentionCounter, TrafficCounter, main
from fusionframes_core.kernels.elementwise import add_residual, merge_convex
from fusionframes_core.kernels.group_norms import GroupNormSpec, conditional_norm
from fusionframes_core.kernels.kernel_choice import fused_kernels

SIZE = 2 * 8 * 4 * 6  # numbers of x
X = torch.empty(2, 8, 4, 6, device="meta").to(memory_format=torch.channels_last)


def count(work: object, *operands: object) -> Counter[str]:
    """Numbers (not bytes) that `work(*operands)` moves, by kind."""
    counter = TrafficCounter()
    with torch.no_grad(), counter, AttentionCounter(counter):
        work(*operands)  # type: ignore[operator]
    return Counter({kind: size // 4 for kind, size in counter.bytes.items()})


def test_convolution_in_one_layout_copies_nothing() -> None:
    layer = nn.Conv2d(8, 8, 1, device="meta").to(memory_format=torch.channels_last)
    assert count(layer, X) == {"convolution": 2 * SIZE + 64, "bias": 2 * SIZE + 8}


def test_convolution_copies_what_lies_otherwise() -> None:
    layer = nn.Conv2d(8, 8, 3, padding=1, bias=False, device="meta")
    plain = {"convolution": 2 * SIZE + 576}
    assert count(layer, X) == plain | {"layout": 2 * 576}, "weights"
    assert count(layer, X.contiguous()) == plain | {"layout": 2 * (2 * SIZE + 576)}, "input, weights, result"


def test_3d_convolution_keeps_channels_last() -> None:
    layer = nn.Conv3d(8, 8, (3, 1, 1), padding=(1, 0, 0), bias=False, device="meta")
    layer = layer.to(memory_format=torch.channels_last_3d)
    video = torch.empty(1, 2, 4, 6, 8, device="meta").permute(0, 4, 1, 2, 3)
    assert count(lambda x: layer(x).transpose(1, 2).flatten(0, 1), video) == {"convolution": 2 * SIZE + 192}


def test_group_norm_takes_channels_last_apart() -> None:
    assert count(F.group_norm, X, 2) == {"norm": 3 * SIZE, "layout": 2 * SIZE}
    assert count(F.group_norm, X.contiguous(), 2) == {"norm": 3 * SIZE}


def test_fused_norm_reads_twice_and_writes_once() -> None:
    scale, shift = torch.empty(2, 2, 8, device="meta")
    run = (conditional_norm, X, GroupNormSpec(2), scale, shift, True)
    with fused_kernels(True):
        assert count(*run) == {"norm": 3 * SIZE + 32}
    apart = count(*run)
    assert apart["modulation"] == 2 * SIZE + 32
    assert apart["SiLU"] == 2 * SIZE
    assert apart["norm"] == 3 * SIZE
    assert apart["layout"] == 2 * SIZE


def test_merge_with_its_bias_is_one_pass() -> None:
    bias, weight = torch.empty(8, device="meta"), torch.empty(1, device="meta")
    with fused_kernels(True):
        assert count(merge_convex, X, X.clone(), weight, bias)["merge"] == 3 * SIZE + 9
        assert count(add_residual, X, X.clone(), bias)["merge"] == 3 * SIZE + 8
    assert count(merge_convex, X, X.clone(), weight, bias)["residual"] == 2 * SIZE + 8
    assert count(merge_convex, X, X.clone(), weight, bias)["merge"] == 3 * SIZE + 1


def test_views_and_expanded_axes_are_free() -> None:
    assert count(lambda x: x.permute(0, 2, 3, 1).flatten(1, 2), X) == {}
    wide = torch.empty(8, device="meta").expand(100, 8)
    assert count(lambda part: part.clone(), wide) == {"layout": 8 + 800}


def test_attention_is_one_pass_but_for_wide_heads() -> None:
    def moved(width: int) -> int:
        query = torch.empty(1, 1, 10, width, device="meta")
        return count(F.scaled_dot_product_attention, query, query, query)["attention"]

    assert moved(64) == 4 * 640
    # Four operands to float32 and back, two products, and the scores (10 × 10) four times.
    assert moved(512) == (8 + 4) * 5120 + 4 * 100


DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"
CELLS = re.compile(r"^\| (?P<stage>[^|]+) \| (?P<torch>[\d.]+, [\d,]+) \| (?P<fused>[\d.]+, [\d,]+) \|$", re.MULTILINE)


@pytest.mark.slow
def test_the_documents_table_is_what_the_command_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """At full size, gigabytes and kernels of every stage: neither can change without the other."""
    main(["--json"])
    counted: dict[str, dict[str, str]] = {}
    for row in json.loads(capsys.readouterr().out):
        cell = f"{sum(row['gigabytes'].values()):.1f}, {sum(row['launches'].values()):,}"
        counted.setdefault(row["stage"], {})[row["kernels"]] = cell
    found = [match.groupdict() for match in CELLS.finditer(DOCUMENT.read_text(encoding="utf-8"))]
    assert {row.pop("stage"): row for row in found} == counted


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--small", "--only", "conv3_attn", "--json"])
    torch_row, fused_row = json.loads(capsys.readouterr().out)
    assert torch_row["stage"] == fused_row["stage"] == "decode a chunk, conv3_attn"
    assert torch_row["gigabytes"]["merge"] > 0
    assert sum(fused_row["gigabytes"].values()) <= sum(torch_row["gigabytes"].values())
    main(["--small", "--only", "keyframe step 1.0"])
    assert capsys.readouterr().out.count("guided keyframe step 1.0") == 2
    with pytest.raises(SystemExit):
        main(["--only", "no such stage"])
