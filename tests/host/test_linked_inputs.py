"""Inputs that come from other nodes, as ComfyUI hands them over: sizes, prompts, names, and stock masks."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helpers.host_graphs import TinyGraph
from tests.helpers.host_server import Rejected, Server, error_of
from tests.host.test_stock import latents_of

pytestmark = [pytest.mark.host, pytest.mark.slow]


def sized(graph: TinyGraph, width: Any, height: Any) -> Any:
    """An empty video of a size."""
    size = {"width": width, "height": height, "num_frames": 5, "fps": 2.0, "batch_size": 1}
    return graph.ours("EmptyVideoLatent", **size)[0]


def test_linked_sizes_and_prompts_run(server: Server) -> None:
    """The same latents as of values that are typed."""
    graph = TinyGraph()
    width = graph.add("PrimitiveInt", value=48)[0]
    prompts = graph.add("PrimitiveStringMultiline", value="0: a red circle\n3: a blue star")[0]
    schedule = {"clip": graph.clip, "num_frames": 5, "blend": False}
    linked = graph.ours("SchedulePrompts", **schedule, prompts=prompts)[0]
    typed = graph.ours("SchedulePrompts", **schedule, prompts="0: a red circle\n3: a blue star")[0]
    found, wanted = latents_of(
        server,
        graph,
        graph.ksampler(latent_image=sized(graph, width, 64), positive=linked),
        graph.ksampler(latent_image=sized(graph, 48, 64), positive=typed),
    )
    assert found.shape == (1, 4, 5, 8, 6)
    assert (found - wanted).abs().max() == 0


def test_a_linked_size_that_no_model_makes_is_one_sentence(server: Server) -> None:
    graph = TinyGraph()
    graph.save_latents(graph.ksampler(latent_image=sized(graph, graph.add("PrimitiveInt", value=50)[0], 64)))
    try:
        said = error_of(server.finish(server.queue(graph.prompt)))
    except Rejected as refusal:
        said = " ".join(refusal.sentences)
    assert "width and height must be 0 or multiples of 16" in said


def test_stock_masks_act_in_long_videos(server: Server) -> None:
    """Two prompts side by side: each acts in its half, in every window."""
    graph = TinyGraph()
    ends = []
    for x, prompt in ((0, "a red circle"), (32, "a blue circle")):
        side = graph.add("SolidMask", value=1.0, width=32, height=64)[0]
        nothing = graph.add("SolidMask", value=0.0, width=64, height=64)[0]
        mask = graph.add("MaskComposite", destination=nothing, source=side, x=x, y=0, operation="add")[0]
        text = graph.add("CLIPTextEncode", clip=graph.clip, text=prompt)[0]
        masked = graph.add("ConditioningSetMask", conditioning=text, mask=mask, strength=1.0, set_cond_area="default")
        ends.append(masked[0])
    both = graph.add("ConditioningCombine", conditioning_1=ends[0], conditioning_2=ends[1])[0]
    model = graph.ours("ExtendVideo", model=graph.keyframes, window=16, overlap=4)[0]
    options = {"model": model, "num_frames": 20}
    one = graph.add("CLIPTextEncode", clip=graph.clip, text="a red circle")[0]
    found, plain = latents_of(
        server, graph, graph.ksampler(positive=both, **options), graph.ksampler(positive=one, **options)
    )
    assert found.shape == plain.shape == (1, 4, 20, 8, 8)
    left, right = ((found - plain)[..., side].abs().mean() for side in (slice(0, 4), slice(4, 8)))
    print(f"against the left prompt alone: {left:.3f} in the left half, {right:.3f} in the right one")
    assert 1.2 * left < right
