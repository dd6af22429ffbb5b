"""Settings: a model's defaults, what is refused before any work, and the official code's speeds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fusionframes_core import FusionFramesPipeline, GenerationSettings
from fusionframes_core.config import ModelConfig
from fusionframes_core.presets import KANDINSKY_VIDEO_1_0, KANDINSKY_VIDEO_1_1, TINY
from fusionframes_core.sampling.options import SamplingOptions
from fusionframes_core.settings import ResolvedImageSettings, ResolvedSettings, size_multiple


@pytest.fixture(scope="module")
def pipe(micro_folder: Path) -> FusionFramesPipeline:
    return FusionFramesPipeline.from_pretrained(micro_folder)


BAD = [
    ({"seed": -1}, "seed must be a whole number from 0 to 18446744073709551615; got -1"),
    ({"seed": 1.5}, "seed must be a whole number"),
    ({"num_frames": 0}, "num_frames must be a whole number from 1 to 180; got 0"),
    ({"num_frames": 1}, "num_frames must be at least 2 for interpolation"),
    ({"passes": 3}, "passes must be a whole number from 0 to 2; got 3"),
    ({"passes": True}, "passes must be a whole number"),
    ({"skip_frames": (3,), "passes": 2}, "skip_frames must have one value for each of 2 passes"),
    ({"skip_frames": (0, 1)}, "skip_frames must be a whole number from 1 to 12; got 0"),
    ({"perturbation": 251}, "perturbation must be a whole number from 0 to 250; got 251"),
    ({"guidance": float("nan")}, "guidance must be a finite number of at least 0; got nan"),
    ({"guidance": -1.0}, "guidance must be a finite number of at least 0; got -1.0"),
    ({"interpolation_guidance": float("inf")}, "interpolation_guidance must be a finite number"),
    ({"steps": 0}, "steps must be a whole number from 1 to 1000; got 0"),
    ({"interpolation_steps": 1001}, "interpolation_steps must be a whole number from 1 to 1000; got 1001"),
    ({"sampler": "euler"}, "sampler must be one of ddpm, ddim, dpmpp_2m; got 'euler'"),
    ({"sampler": ["ddim"]}, "sampler must be one of ddpm, ddim, dpmpp_2m; got .'ddim'."),
    ({"decode_windows": {"official": 1}}, "decode_windows must be one of blended, official; got .'official': 1."),
    ({"size": (12, 16)}, "size must be height and width in pixels, both multiples of 8; got 12x16"),
    ({"size": (0, 16)}, "both multiples of 8; got 0x16"),
    ({"size": 16}, "size must be height and width"),
    ({"motion": "high"}, "motion must be left out: micro does not start from an image"),
    ({"negative_prompt": None}, "negative_prompt must be a string; got None"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_settings_are_refused_before_any_work(
    pipe: FusionFramesPipeline, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], message: str
) -> None:
    def work(*_: object) -> None:
        raise AssertionError("work began")

    monkeypatch.setattr(pipe.text_encoder, "encode", work)
    monkeypatch.setattr(pipe.keyframe, "forward", work)
    with pytest.raises(ValueError, match=message):
        pipe("a red circle", **change)


def test_unknown_settings_are_refused(pipe: FusionFramesPipeline) -> None:
    with pytest.raises(TypeError, match="colour"):
        pipe("a red circle", colour="red")


def test_defaults_come_from_the_model(micro_config: ModelConfig) -> None:
    chosen = GenerationSettings(steps=9).resolve(micro_config)
    assert (chosen.num_frames, chosen.steps, chosen.interpolation_steps, chosen.size) == (4, 9, 2, (16, 16))
    assert chosen.motion is None
    official = GenerationSettings().resolve(KANDINSKY_VIDEO_1_1)
    assert (official.motion, official.image_guidance, official.noise_augmentation) == ("medium", 2.0, 20)
    assert (official.image_fit, official.negative) == ("cover", "own")
    with pytest.raises(ValueError, match="motion must be one of low, medium, high, extreme; got 'fast'"):
        GenerationSettings(motion="fast").validate(KANDINSKY_VIDEO_1_1)


@pytest.mark.parametrize(
    ("config", "counts"), [(KANDINSKY_VIDEO_1_0, (15, 57, 225)), (KANDINSKY_VIDEO_1_1, (12, 45, 177))]
)
def test_speeds_have_the_official_frames_and_rates(config: ModelConfig, counts: tuple[int, ...]) -> None:
    for name, count, rate in zip(("low", "medium", "high"), counts, (2, 8, 32), strict=True):
        chosen = GenerationSettings(fps=name).resolve(config)
        assert (chosen.num_frames - 1) * 4**chosen.passes + 1 == count
        assert config.fps * 4**chosen.passes == rate
        assert chosen.resolve(config) == chosen


def test_resolved_settings_are_settings_and_resolve_to_themselves(micro_config: ModelConfig) -> None:
    """The type says whether the model continues an image; the values are those of GenerationSettings."""
    chosen = GenerationSettings(steps=9, sampler="ddim").resolve(micro_config)
    assert type(chosen) is ResolvedSettings
    assert chosen.resolve(micro_config) == chosen
    assert list(dataclasses.asdict(chosen)) == list(dataclasses.asdict(GenerationSettings()))
    assert chosen.keyframe_sampling == SamplingOptions(9, micro_config.guidance, "ddim")
    assert type(GenerationSettings().resolve(KANDINSKY_VIDEO_1_1)) is ResolvedImageSettings
    with pytest.raises(TypeError, match="num_frames"):
        ResolvedSettings(guidance=1.0)  # type: ignore[call-arg]


def test_the_size_multiple_is_the_decoders_factor_times_the_unets() -> None:
    assert size_multiple(TINY) == 16
    assert size_multiple(KANDINSKY_VIDEO_1_1) == 64
