"""Wrong models, latents, sizes and schedules: a sentence in the node, before the first step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.host.graphs import TinyGraph
from tests.host.harness import Rejected, Server, error_of

pytestmark = [pytest.mark.host, pytest.mark.slow]


def keyframes_from_interpolation(graph: TinyGraph) -> Any:
    return graph.sample_keyframes(model=graph.interpolation)


def interpolation_from_keyframes(graph: TinyGraph) -> Any:
    return graph.interpolate(graph.empty(), model=graph.keyframes)


def ksampler_of_interpolation(graph: TinyGraph) -> Any:
    return graph.ksampler(graph.interpolation)


def one_keyframe(graph: TinyGraph) -> Any:
    return graph.interpolate(graph.empty(num_frames=1))


def image_latents(graph: TinyGraph) -> Any:
    return graph.interpolate(graph.add("EmptyLatentImage", width=64, height=64, batch_size=1)[0])


def other_channels(graph: TinyGraph) -> Any:
    empty = graph.add("EmptyHunyuanLatentVideo", width=64, height=64, length=5, batch_size=1)[0]
    return graph.interpolate(empty)


def schedule_of_other_length(graph: TinyGraph) -> Any:
    schedule = {"prompts": "0: a red circle\n5: a blue star", "num_frames": 8, "blend": True}
    return graph.sample_keyframes(text=graph.ours("SchedulePrompts", clip=graph.clip, **schedule)[0])


def loop_in_windows(graph: TinyGraph) -> Any:
    long = graph.ours("ExtendVideo", model=graph.keyframes, window=16, overlap=8)[0]
    return graph.sample_keyframes(model=graph.ours("CloseLoop", model=long)[0])


def odd_images(graph: TinyGraph) -> Any:
    images = graph.add("EmptyImage", width=60, height=50, batch_size=2, color=0)[0]
    return graph.ours("EncodeVideo", vae=graph.vae, width=0, height=0, every=1, fps=0.0, images=images)[0]


def nothing_to_encode(graph: TinyGraph) -> Any:
    return graph.ours("EncodeVideo", vae=graph.vae, width=64, height=64, every=1, fps=0.0)[0]


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (keyframes_from_interpolation, "its first output); got a FusionFrames interpolation model"),
        (interpolation_from_keyframes, "its second output); got a FusionFrames keyframe model"),
        (ksampler_of_interpolation, "put FusionFrames Prepare Interpolation before the sampler"),
        (one_keyframe, "latents must have at least 2 frames to interpolate between; got 1"),
        (image_latents, "got [1, 4, 8, 8]"),
        (other_channels, "got [1, 16, 2, 8, 8]"),
        (schedule_of_other_length, "num_frames must be the Prompt Schedule's, which is 8; got 5"),
        (loop_in_windows, "a model that samples in windows cannot loop too"),
        (odd_images, "these are 60×50"),
        (nothing_to_encode, "connect either video or images"),
    ],
)
def test_what_does_not_fit_is_named(server: Server, build: Callable[[TinyGraph], Any], sentence: str) -> None:
    """The run stops with one sentence that says what is wrong and what fits."""
    graph = TinyGraph()
    graph.save_latents(build(graph))
    entry = server.finish(server.queue(graph.prompt))
    assert entry["status"]["status_str"] == "error"
    assert sentence in error_of(entry)
    assert "\n" not in error_of(entry).strip()


@pytest.mark.parametrize(
    ("prompts", "sentence"),
    [
        ("0: a circle\n16: a star", "prompts names keyframe 16, but there are 16: 0 to 15"),
        ("a circle", "prompts must be lines like '0: a red circle'; got 'a circle'"),
        ("3: a circle\n3: a star", "prompts names keyframe 3 twice"),
        (" ", "prompts must have at least one line"),
    ],
)
def test_bad_schedule_is_refused(server: Server, prompts: str, sentence: str) -> None:
    """A schedule that makes no sense is not queued."""
    graph = TinyGraph()
    text = graph.ours("SchedulePrompts", clip=graph.clip, prompts=prompts, num_frames=16, blend=True)[0]
    graph.save_latents(graph.sample_keyframes(text=text))
    with pytest.raises(Rejected) as refusal:
        server.queue(graph.prompt)
    assert any(sentence in line for line in refusal.value.sentences), refusal.value.sentences


def test_another_vae_is_named(server: Server) -> None:
    """Decode and Encode Video take our VAE only; here one of ComfyUI's pixel-space VAEs."""
    graph = TinyGraph()
    other = graph.add("VAELoader", vae_name="pixel_space")[0]
    graph.save_video(graph.decode(graph.empty(), vae=other)[0])
    entry = server.finish(server.queue(graph.prompt))
    assert "vae must be the MoVQ of FusionFrames Load Model (its fourth output)" in error_of(entry)


@pytest.mark.parametrize("name", ["gone", "../secret", ""])
def test_missing_conditioning_is_refused(server: Server, name: str) -> None:
    """A file that is not there, or outside its folder."""
    graph = TinyGraph()
    graph.save_latents(graph.sample_keyframes(text=graph.ours("LoadConditioning", name=name)[0]))
    with pytest.raises(Rejected) as refusal:
        server.queue(graph.prompt)
    assert any("name" in line for line in refusal.value.sentences)
