"""Laws of the interpolation U-Net (paper, section 4.2 and appendix 9)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fusionframes_core.models.temporal import temporal_parameters
from fusionframes_core.models.unet.interpolation_unet import (
    InterpolationUNet,
    inflate_interpolation,
    merge_groups,
    split_groups,
)
from fusionframes_core.models.unet.keyframe_unet import freeze_spatial
from tests.helpers.unet_cases import (
    close,
    condition,
    frame_by_frame,
    group_condition,
    image_unet,
    interpolation_config,
    randomise,
)

X = (12, 3, 8, 6)


def trained(**changes) -> InterpolationUNet:
    return randomise(InterpolationUNet(interpolation_config(**changes)))


@pytest.mark.parametrize("groups", [1, 2, 15])
def test_groups_round_trip_and_lie_frame_major(groups: int) -> None:
    video = torch.randn(2, 4, 4 * groups + 1, 2, 3)
    keyframes, inner = split_groups(video)
    assert torch.equal(merge_groups(keyframes, inner), video)
    for group in range(groups):
        assert torch.equal(keyframes[:, :, group], video[:, :, 4 * group])
        for frame in range(3):
            assert torch.equal(inner[:, 4 * frame : 4 * frame + 4, group], video[:, :, 4 * group + 1 + frame])


@pytest.mark.parametrize("frames", [1, 4, 6])
def test_videos_that_do_not_split_are_refused(frames: int) -> None:
    with pytest.raises(ValueError, match="must be 4·G \\+ 1"):
        split_groups(torch.randn(1, 4, frames, 2, 2))


@torch.no_grad()
@pytest.mark.parametrize("merge", ["residual", "convex"])
@pytest.mark.parametrize("pooling", ["before", "after"])
@pytest.mark.parametrize("copied", ["first", "middle", "mean"])
def test_freshly_inflated_predicts_three_equal_frames_as_the_image_model_would(copied, pooling, merge) -> None:
    image = image_unet()
    config = interpolation_config(temporal_merge=merge, text_pooling=pooling)
    unet = inflate_interpolation(image, config, input_copy=copied)
    x, t, seen = torch.randn(2, *X), torch.tensor([5, 800]), group_condition(2, 3)
    out = unet(x, t, seen).unflatten(1, (3, 4))
    assert torch.equal(out[:, 0], out[:, 1])
    assert torch.equal(out[:, 0], out[:, 2])
    frames = x.unflatten(1, (3, 4))
    source = {"first": frames[:, 0], "middle": frames[:, 1], "mean": frames.mean(dim=1)}[copied]
    text = condition(2)
    text.context, text.mask = seen.context, seen.mask
    assert close(out[:, 0], frame_by_frame(image, source, t, text))


def test_every_alpha_starts_at_zero_and_trains() -> None:
    unet = inflate_interpolation(image_unet(), interpolation_config())
    alphas = {name: p for name, p in unet.named_parameters() if "alpha" in name or name.endswith("_merge.weight")}
    assert len(alphas) > 40
    assert not any(p.any() for p in alphas.values())
    unet(torch.randn(1, *X), torch.tensor([500]), group_condition(1, 3)).square().mean().backward()
    assert [name for name, p in alphas.items() if not p.grad.abs() > 0] == []


def test_fresh_outer_layers_break_the_symmetry() -> None:
    unet = inflate_interpolation(image_unet(), interpolation_config(), input_copy="fresh", output_copy="fresh")
    with torch.no_grad():
        out = unet(torch.randn(1, *X), torch.tensor([5]), group_condition(1, 3)).unflatten(1, (3, 4))
    assert not close(out[:, 0], out[:, 1], 1e-2)
    assert unet.in_layer.weight.any(dim=(0, 2, 3)).all()


@torch.no_grad()
@pytest.mark.parametrize("attention", [False, True])
def test_groups_see_each_other_only_where_time_is_on(attention: bool) -> None:
    unet = trained(temporal_attention=attention)
    x, t, seen = torch.randn(2, *X), torch.tensor([5, 800]), group_condition(2, 3)
    seen.temporal = torch.tensor([True, False])
    changed = x.clone()
    changed[:, :, 2] += 1
    difference = (unet(x, t, seen) - unet(changed, t, seen)).abs().amax(dim=(1, 3, 4))
    assert (difference[0] > 1e-4).all()
    assert (difference[1, :2] == 0).all()
    assert difference[1, 2] > 1e-4


@torch.no_grad()
def test_videos_of_a_batch_do_not_see_each_other() -> None:
    unet = trained()
    x, t, seen = torch.randn(2, *X), torch.tensor([5, 800]), group_condition(2, 3)
    seen.temporal = torch.tensor([True, False])
    whole = unet(x, t, seen)
    for i in range(2):
        one = slice(i, i + 1)
        alone = replace(seen, **{name: value[one] for name, value in vars(seen).items() if value is not None})
        assert close(unet(x[one], t[one], alone), whole[one])


@torch.no_grad()
@pytest.mark.parametrize("groups", [1, 2, 20])
def test_takes_any_number_of_groups(groups: int) -> None:
    out = trained()(torch.randn(1, 12, groups, 8, 6), torch.tensor([5]), group_condition(1, groups))
    assert out.shape == (1, 12, groups, 8, 6)
    assert out.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("what", ["keyframes", "context", "skip_frames", "perturbation", "temporal"])
def test_every_condition_counts(what: str) -> None:
    unet = trained()
    x, t, seen = torch.randn(1, *X), torch.tensor([5]), group_condition(1, 3)
    value = getattr(seen, what)
    changed = replace(seen, **{what: ~value if value.dtype == torch.bool else value + 3})
    assert not close(unet(x, t, seen), unet(x, t, changed), 1e-4)


@torch.no_grad()
def test_fixed_perturbation_ignores_what_is_given() -> None:
    fixed, given = trained(fixed_perturbation=7), InterpolationUNet(interpolation_config())
    given.load_state_dict(fixed.state_dict())
    x, t, seen = torch.randn(1, *X), torch.tensor([5]), group_condition(1, 3)
    assert torch.equal(fixed(x, t, seen), fixed(x, t, replace(seen, perturbation=torch.zeros(1))))
    assert torch.equal(fixed(x, t, seen), given(x, t, replace(seen, perturbation=torch.full((1,), 7.0))))


@torch.no_grad()
def test_keyframes_lie_left_and_right_of_their_group() -> None:
    unet = trained()
    x, t, seen = torch.randn(1, *X), torch.tensor([5]), group_condition(1, 3, temporal=False)
    changed = replace(seen, keyframes=seen.keyframes.clone())
    changed.keyframes[:, :, 1] += 1
    reached = (unet(x, t, seen) - unet(x, t, changed)).abs().amax(dim=(0, 1, 3, 4)) > 1e-5
    assert reached.tolist() == [True, True, False]
    inputs = torch.cat((seen.keyframes[:, :, :-1], x, seen.keyframes[:, :, 1:]), dim=1)
    assert torch.equal(unet.predict(inputs, t, seen), unet(x, t, seen))


def test_temporal_parameters_are_what_the_image_model_lacks() -> None:
    image = image_unet()
    unet = inflate_interpolation(image, interpolation_config())
    ours = {name for name, _ in unet.named_parameters()} - {name for name, _ in image.named_parameters()}
    assert {name for name, _ in temporal_parameters(unet)} == ours
    freeze_spatial(unet)
    assert {name for name, p in unet.named_parameters() if p.requires_grad} == ours


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temporal_merge": "sum"}, "temporal_merge must be one of residual, convex; got 'sum'"),
        ({"text_pooling": "never"}, "text_pooling must be one of before, after; got 'never'"),
        ({"trunk": replace(interpolation_config().trunk, temporal="conv1d_attn1d_blocks")}, "trunk.temporal must be"),
    ],
)
def test_configs_that_do_not_fit_are_refused_in_words(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InterpolationUNet(interpolation_config(**changes), device="meta")


def test_inputs_that_do_not_fit_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match="keyframes must be one more than the groups; got 3 for 3 groups"):
        trained()(torch.randn(1, *X), torch.tensor([5]), group_condition(1, 2))
    with pytest.raises(ValueError, match="input_copy must be one of first, middle, mean, fresh; got 'all'"):
        inflate_interpolation(image_unet(), interpolation_config(), input_copy="all")
