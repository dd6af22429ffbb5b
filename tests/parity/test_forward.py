"""One forward of every network against the official code's numbers (float32, CPU), to 1e-4 of the official maximum.

Every case of the folder is taken (FUSIONFRAMES_GOLDEN, or the copy here); architecture, names and sizes come from it.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from fusionframes_core.checkpoints.names import TEXT_RULES, ours_from_official
from fusionframes_core.config import TextEncoderConfig
from fusionframes_core.models.text_encoder import TextEncoder
from fusionframes_core.models.unet.interpolation_unet import InterpolationCondition
from fusionframes_core.models.unet.unet import KeyframeCondition
from tests.helpers.parity_cases import CASES, Case, as_video, assert_agrees, cases, official_model

TOLERANCE = 1e-4
KINDS = {"keyframe", "interpolation", "movq", "text", "keyframe sampling", "interpolation sampling"}


def test_every_kind_is_there_in_both_versions() -> None:
    assert {case.kind for case in CASES} == KINDS
    for kind in KINDS - {"text"}:
        assert {case.version for case in cases(kind)} == {"1.0", "1.1"}


@pytest.mark.parametrize("case", [*cases("keyframe"), *cases("interpolation")], ids=lambda case: case.name)
def test_the_architecture_is_read_off_the_weights(case: Case) -> None:
    config = official_model(case).config
    official = case.config
    names = {"in_channels": "num_channels", "channel_mult": "dim_mult"}
    names |= {"cross_attention": "add_cross_attention", "self_attention": "add_self_attention"}
    for field, value in dataclasses.asdict(config).items():
        theirs = official.get(names.get(field, field))
        assert theirs is None or value == (tuple(theirs) if isinstance(theirs, list) else theirs), field


@pytest.mark.parametrize("case", cases("keyframe"), ids=lambda case: case.name)
@torch.no_grad()
def test_keyframe_unet(case: Case) -> None:
    unet, given = official_model(case), case.tensors
    context, mask = given["in/context"], given["in/context_mask"].bool()
    levels = {name: given[f"in/{name}"][:1] for name in ("motion_score", "noise_augmentation") if f"in/{name}" in given}
    condition = KeyframeCondition(context, mask, given["in/temporal_positions"][None], **levels)
    assert_agrees(unet(case.video("in/x"), given["in/time"][:1], condition), case.video("out/noise"), TOLERANCE)


@pytest.mark.parametrize(
    "case", [case for case in cases("keyframe") if "in/image_x" in case.tensors], ids=lambda case: case.name
)
@torch.no_grad()
def test_stills_take_their_own_way_in(case: Case) -> None:
    unet, given = official_model(case), case.tensors
    stills = given["in/image_x"][:, :, None]
    context, mask = (given[f"in/{name}"].expand(len(stills), *given[f"in/{name}"].shape[1:])
                     for name in ("context", "context_mask"))  # fmt: skip
    out = unet(stills, given["in/image_time"], KeyframeCondition(context, mask.bool(), image=True))
    assert_agrees(out, given["out/image_noise"][:, :, None], TOLERANCE)


@pytest.mark.parametrize("case", cases("interpolation"), ids=lambda case: case.name)
@torch.no_grad()
def test_interpolation_unet(case: Case) -> None:
    unet, given = official_model(case), case.tensors
    x = case.video("in/x")
    keyframes = torch.cat((x[:, :4], x[:, 16:, -1:]), dim=2)
    same_neighbours = torch.equal(keyframes[:, :, 1:], x[:, 16:])  # else only the 20 channels say it all
    condition = InterpolationCondition(
        keyframes, given["in/context"][:1], given["in/context_mask"][:1].bool(), given["in/skip_frames"][:1].long(),
        given.get("in/perturbation_time", torch.zeros(1))[:1], torch.ones(1, dtype=torch.bool),
    )  # fmt: skip
    time = given["in/time"][:1]
    out = unet(x[:, 4:16], time, condition) if same_neighbours else unet.predict(x, time, condition)
    assert_agrees(out, case.video("out/v"), TOLERANCE)


@pytest.mark.parametrize("case", cases("movq"), ids=lambda case: case.name)
@torch.no_grad()
def test_movq(case: Case) -> None:
    movq = official_model(case)
    assert_agrees(movq.decode(case.video("in/latents")), case.video("out/pixels"), TOLERANCE)
    if "in/pixels" in case.tensors:
        assert_agrees(movq.encode(case.video("in/pixels")), case.video("out/latents"), TOLERANCE)


@pytest.mark.parametrize("case", cases("text"), ids=lambda case: case.name)
@torch.no_grad()
def test_text_projection(case: Case) -> None:
    sizes = case.config
    small = {"vocab_size": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 1, "feed_forward": "gated-silu"}
    widths = {"d_model": sizes["d_model"], "context_dim": sizes["context_dim"], "max_tokens": sizes["tokens"]}
    encoder = TextEncoder(TextEncoderConfig(**small, **widths, fixed_length=False), None)
    rules = TEXT_RULES["keyframe", "1.0"]
    renamed = {ours_from_official(f"projections.{name}", rules): value for name, value in case.weights.items()}
    assert set(renamed) == {"projection.weight", "norm.weight", "norm.bias"}
    encoder.load_state_dict(renamed, strict=False)
    encoded = encoder.project(case.tensors["in/states"], case.tensors["in/attention_mask"])
    assert_agrees(encoded.context, case.tensors["out/context"], TOLERANCE)
    assert torch.equal(encoded.mask.long(), case.tensors["out/context_mask"])


def test_official_frames_are_the_batch() -> None:
    assert torch.equal(as_video(torch.arange(6.0).view(3, 2, 1, 1))[0, 1, :, 0, 0], torch.tensor([1.0, 3.0, 5.0]))
