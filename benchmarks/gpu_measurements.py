"""What `python -m benchmarks.gpu` measures, one function each: numbers by name, made on the card and freed after."""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import ROOT, Work, device_peak, difference, matrix_rate, peak_growth, timed
from benchmarks.masked import forward
from benchmarks.official_stages import FULL as OFFICIAL_FULL
from benchmarks.official_stages import SMALL as OFFICIAL_SMALL
from benchmarks.official_stages import STAGES, TOKENS, Setting, work_trees
from benchmarks.our_stages import OUR_STAGES, Extent, OurStage, Place, latents, random_model, shrunk, text
from fusionframes_core.kernels.elementwise import plus
from fusionframes_core.kernels.group_norms import GroupNormSpec, conditional_norm, spatial_norm
from fusionframes_core.kernels.kernel_choice import fused_kernels
from fusionframes_core.kernels.wide_attention import wide_attention
from fusionframes_core.models.movq.banded_decode import BandedDecoder
from fusionframes_core.models.movq.chunked_decode import decode_chunked
from fusionframes_core.models.unet.interpolation_unet import InterpolationUNet
from fusionframes_core.models.unet.keyframe_unet import frame_positions
from fusionframes_core.models.unet.masked_unet import MaskedInterpolationUNet
from fusionframes_core.presets import KANDINSKY_VIDEO_1_0, PAPER
from fusionframes_core.sampling.interpolation_sampling import interpolate
from fusionframes_core.sampling.keyframe_sampling import sample_keyframes
from fusionframes_core.sampling.noise import stage_noise
from fusionframes_core.sampling.stage import Sampling

COMFYUI_PATH, COMFYUI_PYTHON = "COMFYUI_PATH", "COMFYUI_PYTHON"
COMFYUI_STAGES = ("keyframes", "interpolation", "decoding 61 frames")
# The official code's stages, by the rows of `OUR_STAGES` that do the same.
OFFICIAL_ROWS = {
    "guided keyframe step 1.0": ("keyframe step", "1.0"),
    "keyframe step 1.1, 3 predictions": ("keyframe step", "1.1"),
    "interpolation step 1.0": ("interpolation step", "1.0"),
    "interpolation step 1.1": ("interpolation step", "1.1"),
    "decode a chunk, image": ("decoder", "1.0"),
    "decode a chunk, conv3_attn": ("decoder", "1.1"),
}


@dataclass(frozen=True)
class Bench:
    """How large, where and how often things are measured."""

    extent: Extent
    place: Place
    repeats: int

    @property
    def on_gpu(self) -> bool:
        return self.place.device == "cuda"

    def milliseconds(self, work: Work) -> float:
        """The median of `repeats` runs, after two that are not counted."""
        for _ in range(2):
            work()
        return statistics.median(timed(work, self.place.device).wall for _ in range(self.repeats)) * 1e3

    def gigabytes(self, work: Work) -> float | None:
        """By how much one run raises the memory in use."""
        megabytes = device_peak(work) if self.on_gpu else peak_growth(work)
        return None if megabytes is None else megabytes / 1e3

    def once(self, work: Work) -> tuple[float, float | None]:
        """Seconds and gigabytes of one run that is too long to repeat."""
        start = time.perf_counter()
        gigabytes = self.gigabytes(work)
        return time.perf_counter() - start, gigabytes


@dataclass(frozen=True)
class Measurement:
    """`run(bench)` gives the row's numbers; `seconds` is about what it takes on an H100, for the time budget."""

    table: str
    row: str
    run: Callable[[Bench], dict[str, Any]]
    seconds: float = 10.0


@contextmanager
def freed() -> Iterator[None]:
    """What is made inside is given back to the card."""
    yield
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


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
    with FlopCounterMode(display=False) as counter:
        work()
    return found | {"teraflop": counter.get_total_flops() / 1e12}


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
    config, size = _paper(bench), (bench.extent.side,) * 2
    unet, prompt = random_model(config.keyframe, bench.place), text(config.keyframe, bench.place)
    positions = frame_positions(config.frame_positions, bench.extent.frames, bench.place.device)[None]
    sampling = Sampling(config.keyframe_schedule, _steps(bench, 50))
    noise = stage_noise(0, "keyframes", 1, bench.place.device)
    work = partial(sample_keyframes, unet, prompt, prompt, config.guidance, positions, size, noise, sampling)
    return dict(zip(("seconds", "gb"), bench.once(work), strict=True))


def whole_interpolation(bench: Bench, passes: int) -> dict[str, Any]:
    """The pass with that number, counted from 1, in 10 guided steps."""
    config = _paper(bench)
    unet, prompt = random_model(config.interpolation, bench.place), text(config.keyframe, bench.place)
    given = latents(bench.extent, bench.place, _frames(bench, passes - 1))
    sampling = Sampling(config.interpolation_schedule, _steps(bench, 10))
    noise = stage_noise(0, "interpolation", 1, bench.place.device)
    weight, levels = config.interpolation_guidance, (3, 0)
    work = partial(interpolate, unet, given, (prompt, prompt), weight, levels, noise, sampling, config.drop_temporal)
    return dict(zip(("seconds", "gb"), bench.once(work), strict=True))


def whole_decoding(bench: Bench) -> dict[str, Any]:
    """All frames after two passes, in chunks of 16, to the processor's memory."""
    config = _paper(bench)
    movq = random_model(config.movq, bench.place)
    video = latents(bench.extent, bench.place, _frames(bench, 2)).to(bench.place.dtype)
    work = partial(decode_chunked, movq, video, output_device="cpu")
    return dict(zip(("seconds", "gb"), bench.once(work), strict=True))


def chunk_memory(bench: Bench, frames: int, banded: bool) -> dict[str, Any]:
    """One chunk of frames, whole or in bands."""
    movq: Any = random_model(_paper(bench).movq, bench.place)
    chunk = latents(bench.extent, bench.place, frames).to(bench.place.dtype)
    decoder = BandedDecoder(movq) if banded else movq
    work = partial(decoder.decode, chunk)
    return {"gb": bench.gigabytes(work), "ms_per_frame": bench.milliseconds(work) / frames}


def masked_interpolation(bench: Bench, videos: int) -> dict[str, Any]:
    """One prediction of groups, and of all frames by Masked Frame Interpolation: 16 to 61 frames."""
    config = shrunk(KANDINSKY_VIDEO_1_0) if bench.extent.small else KANDINSKY_VIDEO_1_0
    found = {}
    for name, kind in (("ms", InterpolationUNet), ("masked_ms", MaskedInterpolationUNet)):
        unet = _random_unet(kind, config.interpolation, bench.place)
        work = forward(unet, videos, bench.extent.frames, bench.extent.side, TOKENS)
        with FlopCounterMode(display=False) as counter:
            work()
        found[name], found[name.replace("ms", "teraflop")] = bench.milliseconds(work), counter.get_total_flops() / 1e12
        del unet, work
        gc.collect()
    return found


def _random_unet(kind: Any, config: Any, place: Place) -> Any:
    """Of this class, with the weights of a fresh one (`build` knows the group U-Net alone)."""
    with torch.device(place.device):
        return kind(config, device=place.device, dtype=place.dtype).eval().requires_grad_(False)


def kernel(bench: Bench, build: Callable[[Bench], Work]) -> dict[str, Any]:
    """One operation in torch's own steps and by the fused kernel."""
    work = build(bench)
    with fused_kernels(False):
        found: dict[str, Any] = {"torch_ms": bench.milliseconds(work)}
    if bench.on_gpu:
        found["ms"] = bench.milliseconds(work)
    return found


def _activation(bench: Bench, frames: int, channels: int, side: int) -> Tensor:
    shape = (2, 32, 8, 8) if bench.extent.small else (frames, channels, side, side)
    x = torch.randn(shape, device=bench.place.device, dtype=bench.place.dtype)
    return x.contiguous(memory_format=torch.channels_last)


def conditional_norm_work(bench: Bench, frames: int, channels: int, side: int) -> Work:
    x = _activation(bench, frames, channels, side)
    scale, shift = torch.randn(2, 2, x.shape[1]).to(x)
    return lambda: conditional_norm(x, GroupNormSpec(32), scale, shift, silu=True)


def spatial_norm_work(bench: Bench, frames: int, channels: int, side: int) -> Work:
    x = _activation(bench, frames, channels, side)
    scale, shift = torch.randn(2, x.shape[0], x.shape[1], 4, 4).to(x)
    weight, bias = torch.randn(2, x.shape[1]).to(x)
    return lambda: spatial_norm(x, GroupNormSpec(32, 1e-6, weight, bias), scale, shift, silu=True)


def residual_work(bench: Bench, frames: int, channels: int, side: int) -> Work:
    x = _activation(bench, frames, channels, side)
    fresh, bias = x.clone(), torch.randn(x.shape[1]).to(x)
    return lambda: plus(x, fresh, bias)


def attention_work(bench: Bench, frames: int, channels: int, side: int) -> Work:
    shape = (1, 64, 512) if bench.extent.small else (frames, side * side, channels)
    query, key, value = torch.randn(3, *shape, device=bench.place.device, dtype=bench.place.dtype)
    return lambda: wide_attention(query, key, value)


def compiled_stage(bench: Bench, stage: OurStage) -> dict[str, Any]:
    """`torch.compile` of the stage's network: the seconds that the first run takes, and the time of the others."""
    model, work = stage.build(bench.extent, bench.place)
    model.compile()
    start = time.perf_counter()
    work()
    return {"compile_seconds": time.perf_counter() - start, "ms": bench.milliseconds(work)}


def comfyui_overhead(bench: Bench) -> dict[str, Any]:
    """Processor time of the nodes over core's, for the tiny model on the CPU, median of 3 runs by turns."""
    tree, helpers = Path(os.environ[COMFYUI_PATH]), ROOT / "tests" / "helpers"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join((str(helpers), str(tree)))}
    command = [os.environ[COMFYUI_PYTHON], str(helpers / "overhead.py"), str(ROOT), "3", *COMFYUI_STAGES]
    answer = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=True)
    report = json.loads(answer.stdout.splitlines()[-1])
    return {
        stage: statistics.median(nodes / core for nodes, core in found["seconds"]) for stage, found in report.items()
    }


def measurements(bench: Bench, compiled: bool) -> list[Measurement]:
    """All that can be measured here, what matters most first."""
    made = [Measurement("card", "matrix product", matrix_product, 2)]
    made += [Measurement("stages", stage.name, partial(our_stage, stage=stage), 15) for stage in OUR_STAGES]
    made += [
        Measurement("video", "keyframes", whole_keyframes, 25),
        Measurement("video", "interpolation 1", partial(whole_interpolation, passes=1), 15),
        Measurement("video", "interpolation 2", partial(whole_interpolation, passes=2), 20),
        Measurement("video", "decoding", whole_decoding, 40),
    ]
    trees = work_trees()
    made += [
        Measurement("official", stage.name, partial(official_stage, stage=stage), 30)
        for stage in OUR_STAGES
        if OFFICIAL_ROWS[stage.name][1] in trees
    ]
    made += [Measurement("masked", str(videos), partial(masked_interpolation, videos=videos), 20) for videos in (1, 4)]
    chunks = ((2, False), (1, False), (2, True)) if bench.extent.small else (
        (16, False), (8, False), (4, False), (1, False), (4, True), (1, True))  # fmt: skip
    made += [
        Measurement("memory", f"{frames}{' in bands' * banded}", partial(chunk_memory, frames=frames, banded=banded), 8)
        for frames, banded in chunks
    ]
    made += [Measurement("kernels", name, partial(kernel, build=build), 3) for name, build in KERNELS.items()]
    if os.environ.get(COMFYUI_PATH) and os.environ.get(COMFYUI_PYTHON):
        made.append(Measurement("comfyui", "tiny", comfyui_overhead, 60))
    if compiled:
        made += [Measurement("compiled", stage.name, partial(compiled_stage, stage=stage), 200) for stage in OUR_STAGES]
    return made


KERNELS: dict[str, Callable[[Bench], Work]] = {
    "U-Net norm, 32 × 384 × 64²": partial(conditional_norm_work, frames=32, channels=384, side=64),
    "U-Net norm, 32 × 1536 × 16²": partial(conditional_norm_work, frames=32, channels=1536, side=16),
    "U-Net norm, 32 × 3072 × 8²": partial(conditional_norm_work, frames=32, channels=3072, side=8),
    "MoVQ norm, 8 × 256 × 512²": partial(spatial_norm_work, frames=8, channels=256, side=512),
    "MoVQ norm, 8 × 1024 × 64²": partial(spatial_norm_work, frames=8, channels=1024, side=64),
    "residual with bias, 32 × 384 × 64²": partial(residual_work, frames=32, channels=384, side=64),
    "attention, 8 × 4096 × 1024": partial(attention_work, frames=8, channels=1024, side=64),
}


def _paper(bench: Bench) -> Any:
    return shrunk(PAPER) if bench.extent.small else PAPER


def _steps(bench: Bench, steps: int) -> int:
    return 2 if bench.extent.small else steps


def _frames(bench: Bench, passes: int) -> int:
    """Frames after so many passes of interpolation."""
    frames = bench.extent.frames
    for _ in range(passes):
        frames = 4 * frames - 3
    return frames
