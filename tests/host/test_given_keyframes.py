"""Pictures for keyframes, and video to video: in our node and in stock samplers, as in core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fusionframes_core.pipeline import FusionFramesPipeline
from fusionframes_core.presets import TINY
from fusionframes_core.sampling.guides import Guide
from tests.helpers.host_graphs import CFG, TinyGraph
from tests.helpers.host_media import put_square
from tests.helpers.host_server import Rejected, Server, error_of
from tests.host.test_stock import latents_of

pytestmark = [pytest.mark.host, pytest.mark.slow]

PROMPT = "a large red circle moving right"


@pytest.fixture(scope="module", autouse=True)
def inputs(server: Server) -> None:
    """A square that moves, in ComfyUI's input folder."""
    put_square(server.base / "input")


@pytest.fixture(scope="module")
def pipeline() -> FusionFramesPipeline:
    """The tiny model in core."""
    return FusionFramesPipeline.from_pretrained("tiny")


def encoded(graph: TinyGraph, name: str = "square.mp4") -> Any:
    """Latents of a video (5 frames) or of an image in ComfyUI's input folder."""
    size = {"vae": graph.vae, "width": 64, "height": 64, "every": 1, "fps": 0.0}
    if name.endswith(".png"):
        return graph.ours("EncodeVideo", **size, images=graph.add("LoadImage", image=name)[0])[0]
    return graph.ours("EncodeVideo", **size, video=graph.add("LoadVideo", file=name)[0])[0]


def guided(graph: TinyGraph, model: Any, index: int, name: str, **changes: Any) -> Any:
    """A model with a guide."""
    inputs = {"strength": 1.0, "pull": 0.0, "width": 64, "height": 64, **changes}
    image = graph.add("LoadImage", image=name)[0]
    return graph.ours("AddGuide", model=model, index=index, vae=graph.vae, image=image, **inputs)[0]


def test_guides_are_held(server: Server) -> None:
    """First and last, through our sampler and KSampler; the frames between are the model's own."""
    graph = TinyGraph()
    model = guided(graph, guided(graph, graph.keyframes, 0, "first_square.png"), -1, "last_square.png")
    ends = [encoded(graph, "first_square.png"), encoded(graph, "last_square.png")]
    links = [graph.sample_keyframes(), graph.sample_keyframes(model=model), graph.ksampler(model)]
    links.append(graph.ksampler(model, sampler_name="dpmpp_2m_sde", scheduler="karras"))
    first, last, plain, *held = latents_of(server, graph, *ends, *links)
    for video in held:
        assert (video[:, :, :1] - first).abs().max() < 1e-4
        assert (video[:, :, -1:] - last).abs().max() < 1e-4
        assert video.isfinite().all()
        assert (video[:, :, 2:3] - first).abs().mean() > 0.05
    assert (held[0][:, :, 1:-1] - plain[:, :, 1:-1]).abs().mean() > 1e-3  # they see the guides


def test_strength_and_pull(server: Server) -> None:
    """A weaker guide is changed, and less is changed more; pull draws the frames around along."""
    graph = TinyGraph("a large white square moving right")
    models = [guided(graph, graph.keyframes, 0, "first_square.png", strength=share) for share in (0.0, 0.4, 1.0)]
    models.append(guided(graph, graph.keyframes, 0, "first_square.png", pull=0.7))
    links = [graph.sample_keyframes(model=model, steps=10) for model in models]
    picture, *found = latents_of(server, graph, encoded(graph, "first_square.png"), *links)
    gaps = [float((video[:, :, :1] - picture).abs().mean()) for video in found]
    around = [float((video[:, :, 1:] - picture).abs().mean()) for video in found]
    print(f"first frame {gaps}, frames around {around}")
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-4
    assert around[3] < around[2]


def test_guides_as_in_core(server: Server, pipeline: FusionFramesPipeline) -> None:
    """The same seed, guides and shares give the same latents in Python, with latents as guides, several in a row."""
    graph = TinyGraph()
    frames = encoded(graph)
    guide = {"index": 1, "strength": 0.75, "pull": 0.5, "width": 0, "height": 0}
    model = graph.ours("AddGuide", model=graph.keyframes, latents=encoded(graph, "first_square.png"), **guide)[0]
    model = graph.ours("AddGuide", model=model, latents=encoded(graph, "last_square.png"), **{**guide, "index": -1})[0]
    links = [
        frames,
        graph.sample_keyframes(model=model),
        encoded(graph, "first_square.png"),
        encoded(graph, "last_square.png"),
    ]
    _, found, first, last = latents_of(server, graph, *links)
    guides = [Guide(first, 1, 0.75, 0.5), Guide(last, -1, 0.75, 0.5)]
    options = {"seed": 3, "steps": 3, "guidance": TINY.guidance, "num_frames": 5}
    wanted = pipeline.sample_keyframes(pipeline.encode_text([PROMPT]), guides=guides, **options)
    assert (found - wanted).abs().max() < 2e-3


@pytest.mark.parametrize("denoise", [0.3, 0.7])
def test_video_to_video_as_in_core(server: Server, pipeline: FusionFramesPipeline, denoise: float) -> None:
    """The last steps of a longer way, over a video's latents; its size and length need not be said."""
    graph = TinyGraph()
    frames = encoded(graph)
    size = {"width": 0, "height": 0, "num_frames": 0}
    given, found = latents_of(
        server, graph, frames, graph.sample_keyframes(latents=frames, denoise=denoise, steps=4, **size)
    )
    options = {"seed": 3, "steps": 4, "guidance": TINY.guidance, "denoise": denoise}
    wanted = pipeline.sample_keyframes(pipeline.encode_text([PROMPT]), latents=given, **options)
    assert (found - wanted).abs().max() < 2e-3


def test_denoise_says_how_much_changes(server: Server) -> None:
    """Less noise is a video nearer to the one that is given; the mask of Set Latent Noise Mask is kept."""
    graph = TinyGraph()
    frames = encoded(graph)
    links = [graph.sample_keyframes(latents=frames, denoise=denoise, steps=6) for denoise in (0.2, 0.5, 1.0)]
    kept = graph.add("SolidMask", value=0.0, width=64, height=64)[0]
    masked = graph.add("SetLatentNoiseMask", samples=frames, mask=kept)[0]
    links.append(graph.sample_keyframes(latents=masked, denoise=0.5))
    given, *found, unchanged = latents_of(server, graph, frames, *links)
    gaps = [float((video - given).abs().mean()) for video in found]
    print(f"gaps to the given video {gaps}")
    assert gaps[0] < gaps[1] < gaps[2]
    assert (unchanged - given).abs().max() < 1e-4


@pytest.mark.parametrize("pull", [0.0, 0.4])
def test_what_a_mask_keeps_stays_beside_a_guide(server: Server, pull: float) -> None:
    """In every frame but the guide's own; where the mask lets them change, pulled frames do."""
    graph = TinyGraph()
    frames = encoded(graph)
    left = graph.add("SolidMask", value=1.0, width=64, height=64)[0]
    hole = graph.add("SolidMask", value=0.0, width=32, height=64)[0]
    half = graph.add("MaskComposite", destination=left, source=hole, x=0, y=0, operation="multiply")[0]
    masked = graph.add("SetLatentNoiseMask", samples=frames, mask=half)[0]
    model = guided(graph, graph.keyframes, 0, "last_square.png", pull=pull)
    given, found = latents_of(server, graph, frames, graph.sample_keyframes(model=model, latents=masked))
    assert (found - given)[:, :, 1:, :, :3].abs().max() < 1e-4
    assert (found - given)[:, :, 1:, :, 5:].abs().mean() > 1e-2


def pull_without_noise(graph: TinyGraph) -> Any:
    """The second of two stock samplers, which goes on with the first one's noise."""
    model = guided(graph, graph.keyframes, 0, "first_square.png", pull=0.4)
    inputs = {"model": model, "positive": graph.positive, "negative": graph.negative, "noise_seed": 3, "steps": 4}
    inputs |= {"cfg": CFG, "sampler_name": "euler", "scheduler": "normal"}
    inputs |= {"add_noise": "disable", "latent_image": encoded(graph), "start_at_step": 2, "end_at_step": 4}
    return graph.add("KSamplerAdvanced", **inputs, return_with_leftover_noise="disable")[0]


def denoise_without_video(graph: TinyGraph) -> Any:
    return graph.sample_keyframes(denoise=0.5)


def other_size(graph: TinyGraph) -> Any:
    return graph.sample_keyframes(latents=encoded(graph), denoise=0.5, num_frames=7)


def too_many_steps(graph: TinyGraph) -> Any:
    return graph.sample_keyframes(latents=encoded(graph), denoise=0.01, steps=100)


def guide_of_another_size(graph: TinyGraph) -> Any:
    return graph.ksampler(guided(graph, graph.keyframes, 0, "first_square.png", width=128, height=64))


def guide_beyond_the_end(graph: TinyGraph) -> Any:
    return graph.ksampler(guided(graph, graph.keyframes, 5, "first_square.png"))


def guide_for_interpolation(graph: TinyGraph) -> Any:
    return graph.ksampler(guided(graph, graph.interpolation, 0, "first_square.png"))


def guide_of_nothing(graph: TinyGraph) -> Any:
    inputs = {"index": 0, "strength": 1.0, "pull": 0.0, "width": 0, "height": 0}
    return graph.ksampler(graph.ours("AddGuide", model=graph.keyframes, **inputs)[0])


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (denoise_without_video, "denoise must be 1 where no latents are connected to change; got 0.5"),
        (other_size, "which are 64×64 pixels, 5 keyframes; got 64×64 pixels, 7 keyframes"),
        (too_many_steps, "denoise must be at least 0.1 for 100 steps"),
        (guide_of_another_size, "a guide is 128×64 pixels and the video 64×64"),
        (guide_beyond_the_end, "index of a guide must be from 0 to 4, or from -5 to -1"),
        (guide_for_interpolation, "model must be a keyframe model"),
        (guide_of_nothing, "connect either image or latents"),
        (pull_without_noise, "pull of Add Guide must be 0 for a sampler that goes on from another without noise"),
    ],
)
def test_what_does_not_fit_is_a_sentence(server: Server, build: Callable[[TinyGraph], Any], sentence: str) -> None:
    graph = TinyGraph()
    graph.save_latents(build(graph))
    try:
        entry = server.finish(server.queue(graph.prompt))
    except Rejected as refusal:
        said = " ".join(refusal.sentences)
    else:
        assert entry["status"]["status_str"] == "error"
        said = error_of(entry)
    assert sentence in said
    assert "\n" not in said.strip()
