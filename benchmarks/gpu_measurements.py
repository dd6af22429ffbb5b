"""What `python -m benchmarks.gpu` measures, one function each: numbers by name, made on the card and freed after."""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_bench import Bench, Measurement
from benchmarks.gpu_kernels import KERNELS, kernel
from benchmarks.harness import ROOT, Work, difference, matrix_rate, operations
from benchmarks.masked import forward
from benchmarks.memory import CARDS, STORED, stored_step
from benchmarks.official_stages import FULL as OFFICIAL_FULL
from benchmarks.official_stages import SMALL as OFFICIAL_SMALL
from benchmarks.official_stages import STAGES, TOKENS, Setting, work_trees
from benchmarks.our_stages import OUR_STAGES, OurStage, Place, latents, random_model, shrunk, text
from fusionframes_core.config import ModelConfig
from fusionframes_core.kernels.kernel_choice import fused_kernels
from fusionframes_core.models.compiled import compile_network
from fusionframes_core.models.layout import channels_last
from fusionframes_core.models.movq.banded_decode import BandedDecoder
from fusionframes_core.models.movq.chunked_decode import decode_chunked
from fusionframes_core.models.movq.decode_plan import Room, decoder_for, plan_chunk, plan_decode, plan_for
from fusionframes_core.models.unet.interpolation_unet import InterpolationUNet
from fusionframes_core.models.unet.keyframe_unet import frame_positions
from fusionframes_core.models.unet.masked_unet import MaskedInterpolationUNet
from fusionframes_core.presets import KANDINSKY_VIDEO_1_0, PAPER
from fusionframes_core.sampling.interpolation_sampling import interpolate
from fusionframes_core.sampling.keyframe_sampling import sample_keyframes
from fusionframes_core.sampling.noise import stage_noise
from fusionframes_core.sampling.options import ContextPair, InterpolationOptions, SamplingOptions
from fusionframes_core.sampling.stage_sampler import StageSampler

COMFYUI_PATH, COMFYUI_PYTHON = "COMFYUI_PATH", "COMFYUI_PYTHON"
COMFYUI_STAGES = ("keyframes", "interpolation", "decoding 61 frames")
COMFYUI_SECONDS = 180  # after which ComfyUI is given up
SHORT = 2  # steps that build every kernel, and show that everything runs
# The official code's stages, by the rows of `OUR_STAGES` that do the same.
OFFICIAL_ROWS = {
    "guided keyframe step 1.0": ("keyframe step", "1.0"),
    "keyframe step 1.1, 3 predictions": ("keyframe step", "1.1"),
    "interpolation step 1.0": ("interpolation step", "1.0"),
    "interpolation step 1.1": ("interpolation step", "1.1"),
    "decode a chunk, image": ("decoder", "1.0"),
    "decode a chunk, conv3_attn": ("decoder", "1.1"),
}


def matrix_product(bench: Bench) -> dict[str, Any]:
    """The card's rate in a large product of bf16 matrices: what the floor is worked out from."""
    return {"teraflops": matrix_rate(bench.place.device, 256 if bench.extent.small else 8192)}


def our_stage(bench: Bench, stage: OurStage) -> dict[str, Any]:
    """Time with the fused kernels and without, memory beside the weights, work."""
    _, work = stage.build(bench.extent, bench.place)
    found: dict[str, Any] = {"ms": bench.milliseconds(work), "gb": bench.gigabytes(work)}
    if bench.on_gpu:
        with fused_kernels(False):
            found["torch_ms"] = bench.milliseconds(work)
    return found | {"teraflop": operations(work) / 1e12}


def official_stage(bench: Bench, stage: OurStage) -> dict[str, Any]:
    """The official code in half precision and ours with its weights; how far apart the results are."""
    name, version = OFFICIAL_ROWS[stage.name]
    half = torch.float16 if bench.on_gpu else torch.float32
    size = OFFICIAL_SMALL if bench.extent.small else OFFICIAL_FULL
    with torch.device(bench.place.device):
        ours, theirs = STAGES[name](version, Setting(size, bench.place.device, bench.place.dtype, half))
    apart = difference(ours(), theirs())
    return {"ms": bench.milliseconds(ours), "official_ms": bench.milliseconds(theirs), "difference": apart}


def whole_keyframes(bench: Bench) -> dict[str, Any]:
    """16 keyframes in 50 guided steps."""
    config, place = _paper(bench), bench.place
    unet, texts = random_model(config.keyframe, place), ContextPair(*[text(config.keyframe, place)] * 2)
    positions = frame_positions(config.frame_positions, bench.extent.frames, place.device)[None]

    def work(steps: int) -> Tensor:
        options = SamplingOptions(steps, config.guidance)
        sampler = StageSampler(config.keyframe_schedule, options, stage_noise(0, "keyframes", 1, place.device))
        return sample_keyframes(unet, texts, positions, (bench.extent.side,) * 2, sampler)

    return _once(bench, partial(work, _steps(bench, 50)), partial(work, SHORT))


def whole_interpolation(bench: Bench, passes: int) -> dict[str, Any]:
    """The pass with that number, counted from 1, in 10 guided steps."""
    config, place = _paper(bench), bench.place
    unet: Any = random_model(config.interpolation, place)
    texts = ContextPair(*[text(config.keyframe, place)] * 2)
    given = latents(bench.extent, place, _frames(bench, passes - 1))

    def work(steps: int) -> Tensor:
        options = SamplingOptions(steps, config.interpolation_guidance)
        sampler = StageSampler(config.interpolation_schedule, options, stage_noise(0, "interpolation", 1, place.device))
        return interpolate(unet, given, texts, InterpolationOptions(), sampler, config.drop_temporal)

    return _once(bench, partial(work, _steps(bench, 10)), partial(work, SHORT))


def whole_decoding(bench: Bench, free: float | None = None, chunk: int | None = None) -> dict[str, Any]:
    """All frames after two passes, to the processor's memory, as the plan has it for what is free on the card, or for
    `free` bytes; `chunk` frames at once where that is asked for."""
    config = _paper(bench).movq
    movq: Any = random_model(config, bench.place)
    video = latents(bench.extent, bench.place, _frames(bench, 2)).to(bench.place.dtype)
    known = config, video.shape[2], (bench.extent.side,) * 2, video.dtype
    if free is None:
        plan = plan_for(movq, video, chunk, output_device=torch.device("cpu"))
    elif chunk is None:
        plan = plan_decode(*known, Room.on(torch.device("cuda"), free))
    else:
        plan = plan_chunk(config, chunk, *known[2:], free)
    decoder = decoder_for(movq, plan)
    work = partial(decode_chunked, decoder, chunk=plan.chunk, overlap=plan.overlap, output_device="cpu")
    found = _once(bench, partial(work, video), partial(work, video[:, :, : plan.chunk]))
    return found | {"chunk": plan.chunk, "banded": float(plan.banded)}


def chunk_memory(bench: Bench, frames: int, banded: bool) -> dict[str, Any]:
    """One chunk of frames, whole or in bands."""
    movq: Any = random_model(_paper(bench).movq, bench.place)
    chunk = latents(bench.extent, bench.place, frames).to(bench.place.dtype)
    decoder = BandedDecoder(movq) if banded else movq
    work = partial(decoder.decode, chunk)
    return {"gb": bench.gigabytes(work), "ms_per_frame": bench.milliseconds(work) / frames}


def stored_keyframes(bench: Bench, dtype: torch.dtype, streamed: bool) -> dict[str, Any]:
    """A guided keyframe step with its weights stored in a type, on the card or streamed to it."""
    step = stored_step(bench.extent, bench.place.device, dtype, streamed)
    found = {"ms": bench.milliseconds(step.work), "weights_gb": step.weights / 1e9, "resident_gb": step.resident / 1e9}
    beside = bench.gigabytes(step.work)
    return found | {"gb": None if beside is None else step.resident / 1e9 + beside}


def masked_interpolation(bench: Bench, videos: int) -> dict[str, Any]:
    """One prediction of groups, and of all frames by Masked Frame Interpolation: 16 to 61 frames."""
    config = shrunk(KANDINSKY_VIDEO_1_0) if bench.extent.small else KANDINSKY_VIDEO_1_0
    found = {}
    for name, kind in (("ms", InterpolationUNet), ("masked_ms", MaskedInterpolationUNet)):
        unet = _random_unet(kind, config.interpolation, bench.place)
        work = forward(unet, videos, bench.extent.frames, bench.extent.side, TOKENS)
        found[name], found[name.replace("ms", "teraflop")] = bench.milliseconds(work), operations(work) / 1e12
        del unet, work
        gc.collect()
    return found


def _random_unet(kind: Any, config: Any, place: Place) -> Any:
    """Of this class, with the weights of a fresh one (`build` knows the group U-Net alone)."""
    with torch.device(place.device):
        made = kind(config, device=place.device, dtype=place.dtype).eval().requires_grad_(False)
    return made if place.device == "cpu" else channels_last(made)


def compiled_stage(bench: Bench, stage: OurStage) -> dict[str, Any]:
    """`torch.compile` of the stage's network: the seconds that the first run takes, and the time of the others."""
    model, work = stage.build(bench.extent, bench.place)
    model.compile()
    start = time.perf_counter()
    work()
    return {"compile_seconds": time.perf_counter() - start, "ms": bench.milliseconds(work)}


def graphed_stage(bench: Bench, stage: OurStage) -> dict[str, Any]:
    """CUDA graphs of the stage's U-Net, as `--compile graphs` has them: the time of a replayed step."""
    model, work = stage.build(bench.extent, bench.place)
    compile_network(model, "graphs")
    return {"ms": bench.milliseconds(work), "gb": bench.gigabytes(work)}


def comfyui_overhead(bench: Bench) -> dict[str, Any]:
    """Processor time of the nodes over core's, for the tiny model on the CPU, median of 3 runs by turns."""
    tree, helpers = Path(os.environ[COMFYUI_PATH]), ROOT / "tests" / "helpers"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join((str(helpers), str(tree)))}
    command = [os.environ[COMFYUI_PYTHON], str(helpers / "overhead.py"), str(ROOT), "3", *COMFYUI_STAGES]
    answer = subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, check=True, timeout=COMFYUI_SECONDS
    )
    report = json.loads(answer.stdout.splitlines()[-1])
    return {
        stage: statistics.median(nodes / core for nodes, core in found["seconds"]) for stage, found in report.items()
    }


def measurements(bench: Bench, compiled: bool) -> list[Measurement]:
    """All that can be measured here, what matters most first: all stages, the video and its memory, the official code
    and Masked Frame Interpolation take less than eight minutes."""
    made = [Measurement("card", "matrix product", matrix_product, 2)]
    made += [Measurement("stages", stage.name, partial(our_stage, stage=stage), 15) for stage in OUR_STAGES]
    made += [
        Measurement("video", "keyframes", whole_keyframes, 25),
        Measurement("video", "interpolation 1", partial(whole_interpolation, passes=1), 15),
        Measurement("video", "interpolation 2", partial(whole_interpolation, passes=2), 20),
        Measurement("video", "decoding", whole_decoding, 40),
        Measurement("decoding", "12 GB", partial(whole_decoding, free=CARDS["12 GB"]), 40),
    ]
    trees = work_trees()
    made += [
        Measurement("official", stage.name, partial(official_stage, stage=stage), 30)
        for stage in OUR_STAGES
        if OFFICIAL_ROWS[stage.name][1] in trees
    ]
    made += [Measurement("masked", str(videos), partial(masked_interpolation, videos=videos), 20) for videos in (1, 4)]
    chunks = ((2, False), (1, False), (2, True)) if bench.extent.small else (
        (16, False), (8, False), (4, False), (2, False), (1, False), (4, True), (1, True))  # fmt: skip
    made += [
        Measurement("memory", f"{frames}{' in bands' * banded}", partial(chunk_memory, frames=frames, banded=banded), 8)
        for frames, banded in chunks
    ]
    asked = partial(whole_decoding, free=CARDS["12 GB"], chunk=2)
    made.append(Measurement("decoding", "12 GB, --decode-chunk 2", asked, 40))
    made += [
        Measurement(
            "weights", f"{name}{', streamed' * streamed}", partial(stored_keyframes, dtype=dtype, streamed=streamed), 20
        )
        for name, dtype in STORED.items()
        for streamed in (False, True)
    ]
    made += [Measurement("kernels", name, partial(kernel, build=build), 3) for name, build in KERNELS.items()]
    if os.environ.get(COMFYUI_PATH) and os.environ.get(COMFYUI_PYTHON):
        made.append(Measurement("comfyui", "tiny", comfyui_overhead, 60))
    steps = [stage for stage in OUR_STAGES if stage.part != "movq"]
    if bench.on_gpu:
        made += [Measurement("graphs", stage.name, partial(graphed_stage, stage=stage), 10) for stage in steps]
    if compiled:
        made += [Measurement("compiled", stage.name, partial(compiled_stage, stage=stage), 200) for stage in steps]
    return made


def _paper(bench: Bench) -> ModelConfig:
    return shrunk(PAPER) if bench.extent.small else PAPER


def _steps(bench: Bench, steps: int) -> int:
    return SHORT if bench.extent.small else steps


def _once(bench: Bench, work: Work, short: Work) -> dict[str, Any]:
    return dict(zip(("seconds", "gb"), bench.once(work, short), strict=True))


def _frames(bench: Bench, passes: int) -> int:
    """Frames after so many passes of interpolation."""
    frames = bench.extent.frames
    for _ in range(passes):
        frames = 4 * frames - 3
    return frames
