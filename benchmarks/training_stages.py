"""Training steps that are timed: ours of each stage by the engine, and the official network's, written plainly."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from benchmarks.gpu_bench import Bench
from benchmarks.harness import CLEAR_REFS, STATUS, status_mb
from benchmarks.official_stages import (
    FULL,
    SMALL,
    TOKENS,
    Size,
    official_module,
    official_movq,
    randomise,
    unet_arguments,
)
from benchmarks.our_stages import shrunk
from fusionframes_core.checkpoints.component import build
from fusionframes_core.config import ModelConfig
from fusionframes_core.models.text_encoder import TextContext
from fusionframes_core.models.unet.keyframe_unet import freeze_spatial
from fusionframes_core.presets import PAPER
from training.data.sources import Drawn
from training.engine.objective import Objective, StageSpec
from training.engine.run_settings import TrainSettings
from training.engine.trainer import Trainer
from training.objectives.decoder_objective import DecoderObjective, VideoDecoder
from training.objectives.denoising import NoiseLevels
from training.objectives.interpolation_objective import InterpolationObjective, KeyframeDropout
from training.objectives.keyframe_objective import KeyframeObjective
from training.objectives.reconstruction import ReconstructionLoss

SMALL_PEAK = 0.05  # TFLOP/s, in place of a card's: so that utilisation is worked out on a CPU too
WINDOW = 33


@dataclass(frozen=True)
class Choice:
    """Settings of `train:` that are tried together."""

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 30.0
    doubtful: bool = False  # takes minutes to compile, or may not fit: measured when all else has been


class RandomClips:
    """A source of noise: latents and texts as prepared ones come, in main memory."""

    def __init__(self, config: ModelConfig, side: int) -> None:
        self.width, self.side = config.keyframe.context_dim, side

    def keyframes(self, rng: np.random.Generator, count: int, num_frames: int) -> Drawn:
        """Latents (count, 4, T, side, side) and their texts."""
        latents = torch.from_numpy(rng.standard_normal((count, 4, num_frames, self.side, self.side), np.float32))
        return Drawn(latents, lambda rng: self.null_context(count), torch.full((count,), 3))

    def windows(self, rng: np.random.Generator, count: int, num_frames: int) -> Drawn:
        """Likewise."""
        return self.keyframes(rng, count, num_frames)

    def images(self, rng: np.random.Generator, count: int, num_frames: int = 1) -> Drawn:
        """Likewise."""
        return self.keyframes(rng, count, num_frames)

    def null_context(self, count: int = 1) -> TextContext:
        """TOKENS tokens."""
        return TextContext(torch.ones(count, TOKENS, self.width), torch.ones(count, TOKENS, dtype=torch.bool))


def keyframes(config: ModelConfig, bench: Bench) -> tuple[nn.Module, Objective]:
    """Temporal parts over a frozen U-Net, 512×512."""
    model = randomise(build(config.keyframe, device=bench.place.device))
    freeze_spatial(model)
    source = RandomClips(config, bench.extent.side)
    config = replace(config, num_frames=bench.extent.frames)
    return model, KeyframeObjective(config, source, 1, NoiseLevels(), 1.0)


def interpolation(config: ModelConfig, bench: Bench) -> tuple[nn.Module, Objective]:
    """The whole U-Net, 256×256."""
    model = randomise(build(config.interpolation, device=bench.place.device))
    source = RandomClips(config, bench.extent.side if bench.extent.small else bench.extent.side // 2)
    window = 9 if bench.extent.small else WINDOW
    objective = InterpolationObjective(config, source, 1, NoiseLevels(), 1.0, KeyframeDropout(1.0, 0.1), window)
    return model, objective


def decoder(config: ModelConfig, bench: Bench) -> tuple[nn.Module, Objective]:
    """The whole decoder on sequences of 8 frames, 256×256."""
    movq: Any = randomise(build(config.movq, device=bench.place.device))
    movq.requires_grad_(False)
    movq.decoder.requires_grad_(True)
    side = 64 if bench.extent.small else 256

    def draw(rng: np.random.Generator, count: int) -> Tensor:
        pixels = rng.uniform(-1, 1, (count, 3, bench.extent.decoded, side, side)).astype(np.float32)
        return torch.from_numpy(pixels)

    return VideoDecoder(movq), DecoderObjective(draw, 1, movq, ReconstructionLoss(1.0), 0.0, 0.0)


TRAINED: dict[str, Callable[[ModelConfig, Bench], tuple[nn.Module, Objective]]] = {
    "keyframes": keyframes,
    "interpolation": interpolation,
    "decoder": decoder,
}


def in_precision(choice: Choice, bench: Bench) -> dict[str, Any]:
    """Settings of a choice in bf16; on a CPU, whose gradients in bf16 may be wrong, in float32."""
    if bench.on_gpu:
        return {**choice.changes, "mixed_precision": "bf16"}
    return {**choice.changes, "mixed_precision": "no", "frozen": "same"}


def our_step(stage: str, choice: Choice, bench: Bench) -> dict[str, Any]:
    """A step by the engine: milliseconds, GB at the peak, TFLOP/s and MFU, and how long the first step took."""
    config = shrunk(PAPER) if bench.extent.small else PAPER
    torch.manual_seed(0)
    model, objective = TRAINED[stage](config, bench)
    settings = TrainSettings(
        Path(tempfile.mkdtemp(prefix="training_gpu_")),
        10**6,
        1,
        1e-5,
        trackers=[],
        loader_threads=2,
        peak_tflops=None if bench.on_gpu else SMALL_PEAK,
        **in_precision(choice, bench),
    )
    trainer = Trainer(settings, model, objective, StageSpec("benchmark"))
    try:
        found = timed_steps(bench, trainer._train_step) | parameters(model)
    finally:
        trainer.batches.close()
    used = trainer.meter.utilisation
    return found | ({} if used is None else used.figures(found["ms"] / 1e3))


@dataclass(frozen=True)
class OfficialStep:
    """The official network of a stage: `build(size)` gives it, what trains of it by name, and one forward pass."""

    version: str
    build: Callable[[Size], nn.Module]
    trains: str  # in the names of what trains
    forward: Callable[[nn.Module, Size, str], Tensor]


def _rows(size: Size, count: int, device: str) -> tuple[Tensor, ...]:
    """Time, text and mask of `count` frames or groups."""
    time = torch.full((count,), 500.0, device=device)
    context = torch.ones(count, TOKENS, size.context, device=device)
    return time, context, torch.ones(count, TOKENS, dtype=torch.bool, device=device)


def _official_keyframes(size: Size) -> nn.Module:
    kind = official_module("1.0", "model.unet").UNet
    return kind(**unet_arguments(size, out_channels=4, num_channels=4, num_frames=size.frames))


def _run_keyframes(unet: nn.Module, size: Size, device: str) -> Tensor:
    x = torch.randn(size.frames, 4, size.side, size.side, device=device)
    positions = torch.arange(size.frames, device=device).float() * 12
    return unet(x, *_rows(size, size.frames, device), positions)


def _official_interpolation(size: Size) -> nn.Module:
    kind = official_module("1.0", "model.unet").UNet
    return kind(**unet_arguments(size, num_channels=20, out_channels=12, interpolation=True))


def _run_interpolation(unet: nn.Module, size: Size, device: str) -> Tensor:
    count, side = (size.frames, size.side) if size is SMALL else (WINDOW // 4, size.side // 2)
    x = torch.randn(count, 20, side, side, device=device)
    skip = torch.full((count,), 3, device=device)
    return unet(x, *_rows(size, count, device), skip_frames=skip, num_temporal_groups=count)


def _official_decoder(size: Size) -> nn.Module:
    return official_movq("1.1", size)


def _run_decoder(movq: Any, size: Size, device: str) -> Tensor:
    side = size.movq_side if size is SMALL else size.movq_side // 2
    decode = type(movq).decode.__wrapped__  # the official method, without the no_grad around it
    return decode(movq, torch.randn(size.movq_frames, 4, side, side, device=device))


OFFICIAL_STEPS = {
    "keyframes": OfficialStep("1.0", _official_keyframes, "temporal", _run_keyframes),
    "interpolation": OfficialStep("1.0", _official_interpolation, "", _run_interpolation),
    "decoder": OfficialStep("1.1", _official_decoder, "decoder", _run_decoder),
}


def plain_step(stage: str, bench: Bench) -> dict[str, Any]:
    """As one writes it: bf16 by autocast (on a CPU float32), squared error, clipping, AdamW, moving average."""
    official, device = OFFICIAL_STEPS[stage], bench.place.device
    size = SMALL if bench.extent.small else FULL
    with torch.device(device):
        model = randomise(official.build(size)).to(device).train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(official.trains in name)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    average = copy.deepcopy([parameter.detach() for parameter in trained])
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)

    def step() -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=bench.on_gpu):
            output = official.forward(model, size, device)
        loss = mse_loss(output.float(), torch.randn_like(output, dtype=torch.float32))
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch._foreach_lerp_(average, [parameter.detach() for parameter in trained], 1e-4)
        return loss.detach()

    return timed_steps(bench, step) | parameters(model)


def parameters(model: nn.Module) -> dict[str, int]:
    """How many it has, trained or not: only steps of equally large networks are compared."""
    return {"parameters": sum(parameter.numel() for parameter in model.parameters())}


def if_it_fits(step: Callable[[Bench], dict[str, Any]], bench: Bench) -> dict[str, Any]:
    """What a step took, with gradients; or that the card's memory is not enough for it."""
    try:
        with torch.inference_mode(False), torch.enable_grad():
            return step(bench)
    except torch.OutOfMemoryError:
        return {"out_of_memory": 1}


def timed_steps(bench: Bench, step: Callable[[], Any]) -> dict[str, Any]:
    """Of steps: milliseconds, GB at the peak over all that is held, and seconds of the first."""
    if bench.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    elif STATUS.is_file():
        CLEAR_REFS.write_text("5")
    start = time.perf_counter()
    loss = float(step())
    first = time.perf_counter() - start
    taken = bench.milliseconds(step)
    if not np.isfinite(loss):
        raise ArithmeticError("the loss is not finite")
    if bench.on_gpu:
        peak: float | None = torch.cuda.max_memory_allocated() / 1e9
    else:
        peak = status_mb("VmHWM") / 1e3 if STATUS.is_file() else None
    return {"ms": taken, "gb": peak, "first_seconds": first}
