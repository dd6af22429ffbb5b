"""Tables whose rows are trained: temporal conditionings (Table 1), interpolation (Table 2), decoders (Table 3)."""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from fusionframes_core.models.temporal import temporal_parameters
from fusionframes_core.pipeline import FusionFramesPipeline
from fusionframes_core.presets import PRESETS
from fusionframes_core.settings import GenerationSettings

from ..engine.run_settings import TrainSettings
from ..evaluate import PROMPTS
from ..evaluation.decoder_quality import evaluate_decoder
from ..evaluation.evaluated_models import generator_of, tools_of
from ..evaluation.interpolation_quality import compare, draw_scenes
from ..evaluation.shape_accuracy import ShapesRun, run_shapes
from ..moving_shapes.prompts_file import read_prompts
from ..train_decoder import DecoderStage
from ..train_interp import InterpolationStage
from ..train_keyframes import KeyframeStage
from .runs import Budget, Row, RowFigures, Summary, Table
from .table_models import base_of, pipeline_with, train_in_process

# The paper's order by FVD, best first (Table 1, 100k steps).
CONDITIONINGS = ("conv1d_attn1d_blocks", "conv1d_attn3d_blocks", "conv3d_attn1d_blocks", "conv1d_attn1d_layers")


@dataclasses.dataclass(frozen=True)
class DecoderRow:
    """A row of Table 3: `trained_parts` of the decoder train ("temporal" layers or all; "": none)."""

    decoder: str
    trained_parts: str
    paper_psnr: float  # which orders the rows


DECODERS = {
    "image": DecoderRow("image", "", 32.9677),
    "conv1, temporal": DecoderRow("conv1", "temporal", 32.2544),
    "conv3, temporal": DecoderRow("conv3", "temporal", 33.5819),
    "conv1, decoder": DecoderRow("conv1", "decoder", 33.5051),
    "conv3, decoder": DecoderRow("conv3", "decoder", 33.6342),
    "conv1_attn, decoder": DecoderRow("conv1_attn", "decoder", 33.7343),
    "conv3_attn, decoder": DecoderRow("conv3_attn", "decoder", 33.8376),
    "resnet_attn, decoder": DecoderRow("resnet_attn", "decoder", 33.7024),
    "conv2d_to_3d, decoder": DecoderRow("conv2d_to_3d", "decoder", 33.7321),
}
OURS, MASKED = "group interpolation (ours)", "Masked Frame Interpolation"
ROWS_OF_INTERPOLATION = {OURS: "groups", MASKED: "masked"}
COSTS = ("seconds", "gflops")
TIMED = ((1, 16), (4, 16), (1, 61))  # batch, frames given


def _settings(budget: Budget, table: str, row: str, seed: int, steps: int, **options: Any) -> TrainSettings:
    # Named after the budget: a training of another one must not be resumed.
    name = f"{row.replace(', ', '_')}_{steps}_steps_{budget.training_clips}_clips_{seed}"
    output = budget.folder / table / "training" / name
    every = max(part for part in range(1, min(steps, 250) + 1) if steps % part == 0)  # so that the end is measured
    rates: dict[str, Any] = {"warmup_steps": max(1, steps // 10), "decay_steps": max(1, steps // 4)}
    rates |= {"ema_decay": max(0.5, min(0.998, 1 - 10 / steps)), "log_every": every, "checkpoint_every": every}
    return TrainSettings(output=output, steps=steps, seed=seed, trackers=[], **rates, **options)


def last_line(run: TrainSettings) -> dict[str, float]:
    """The figures of a finished training's last line in its log."""
    return json.loads((run.output / "log.jsonl").read_text("utf-8").splitlines()[-1])


def measure_conditioning(budget: Budget, temporal: str, seed: int) -> RowFigures:
    """Train the temporal parts over the frozen image U-Net, and measure what the videos show."""
    base, config = base_of(budget), PRESETS[budget.model]
    config = dataclasses.replace(config, keyframe=dataclasses.replace(config.keyframe, temporal=temporal))
    run = _settings(budget, "conditioning", temporal, seed, budget.keyframe_steps, batch_size=4, learning_rate=1.2e-3)
    stage = KeyframeStage(
        run,
        clips=[base.clips("keyframes", budget)],
        validation_clips=[base.clips("keyframes", budget, held_out=True)],
        text_encoder=base.folder,
        image=base.image,
        high_share=0.7,
    )
    weights = train_in_process(stage, config, run.output / "keyframe.safetensors")
    pipeline = pipeline_with(config, {"keyframe": weights}, budget.model)
    shapes = ShapesRun(generator_of(pipeline, GenerationSettings(passes=0)), {}, seed)
    report = run_shapes(read_prompts(PROMPTS, budget.prompts), shapes)
    figures = {name: 100 * report["accuracy"][name]["share"] for name in ("colour", "shape", "motion")}
    parameters = sum(parameter.numel() for _, parameter in temporal_parameters(pipeline.keyframe))
    end = last_line(run)
    figures |= {
        "all": 100 * report["all_right"]["share"],
        "loss": 1e3 * end["val_loss"],
        "wins": 100 * end["val_gap_wins"],
    }
    return {**figures, "parameters": parameters / 1e6}


def measure_interpolation(budget: Budget, architecture: str, seed: int) -> RowFigures:
    """Train an interpolation, and measure quality, time and arithmetic of the denoiser, 16 → 61 frames and more."""
    base, config = base_of(budget), PRESETS[budget.model]
    # As in the paper: both have to learn the frames, not their difference from a blend, and so leave the start at once.
    config = dataclasses.replace(config, interpolation=dataclasses.replace(config.interpolation, base="zero"))
    steps = budget.interpolation_steps
    run = _settings(budget, "interpolation", architecture, seed, steps, batch_size=4, learning_rate=1e-3)
    stage = InterpolationStage(
        run,
        clips=[base.clips("windows", budget)],
        validation_clips=[base.clips("windows", budget, held_out=True)],
        text_encoder=base.folder,
        image=base.image,
        high_share=0.9,  # where the frames are decided
        least_weight=0.05,
        perturbed_share=0.2,
        input_copy="fresh",  # of groups: three equal frames break apart slowly (the bundled one began so too)
        output_copy="fresh",
        architecture=architecture,
    )
    weights = train_in_process(stage, config, run.output / "interpolation.safetensors")
    pipeline = pipeline_with(config, {"interpolation": weights}, budget.model, architecture)
    scenes = draw_scenes("fast", budget.clips, seed)
    values = [compare(tools_of(pipeline), [scene], 12.0, 3, seed + i) for i, scene in enumerate(scenes)]
    means = {name: float(np.mean([value[name] for value in values])) for name in ("interpolation", "linear latents")}
    gain = means["interpolation"] - means["linear latents"]
    figures = {"psnr": means["interpolation"], "blend": means["linear latents"], "gain": gain}
    for batch, frames in TIMED:
        figures |= cost(pipeline, batch, frames)
    return figures


@torch.no_grad()
def cost(pipeline: FusionFramesPipeline, batch: int, frames: int) -> RowFigures:
    """Processor seconds (the best of three) and 10⁹ operations of one pass over `batch` videos of `frames`."""
    size = pipeline.config.size[0] // 8
    latents = torch.randn(batch, 4, frames, size, size, generator=torch.Generator().manual_seed(0))
    seconds = []
    for _ in range(3):
        start = time.process_time()
        pipeline.interpolate(latents)
        seconds.append(time.process_time() - start)
    with FlopCounterMode(display=False) as counter:
        pipeline.interpolate(latents)
    name = f"{batch}x{frames}"
    return {f"seconds {name}": min(seconds), f"gflops {name}": counter.get_total_flops() / 1e9}


def measure_decoder(budget: Budget, row: str, seed: int) -> RowFigures:
    """Train a decoder of Table 3 from the image autoencoder, and measure it on true latents of unseen clips."""
    decoder, parts = DECODERS[row].decoder, DECODERS[row].trained_parts
    base, config = base_of(budget), PRESETS[budget.model]
    config = dataclasses.replace(config, movq=dataclasses.replace(config.movq, decoder=decoder))
    weights: Path = base.movq
    if parts:
        rate = 1.5e-3 if parts == "temporal" else 3e-4
        run = _settings(budget, "decoders", row, seed, budget.decoder_steps, batch_size=2, learning_rate=rate)
        stage = DecoderStage(run, base.movq, parts=parts, shape_weight=2.0, l1_weight=0.0, flicker_weight=0.1)
        weights = train_in_process(stage, config, run.output / "movq.safetensors")
    pipeline = pipeline_with(config, {"movq": weights}, budget.model)
    both = {"temporal": pipeline.decode, "image": lambda latents: pipeline.decode(latents, temporal=False)}
    report = evaluate_decoder(pipeline.encode, both, clips=budget.clips, seed=seed, batch=1, size=config.size[0])
    parameters = sum(parameter.numel() for parameter in pipeline.movq.decoder.parameters())
    return {**report["latents"]["true"]["temporal"], "parameters": parameters / 1e6}


def order_verdict(paper: list[str], means: Summary, figure: str, higher: bool = True) -> list[str]:
    """Which neighbours of the paper's order, best first, come out by `figure`; `higher` is better, or lower."""
    if not all(name in means for name in paper):
        return []
    lines = []
    for better, worse in itertools.pairwise(paper):
        (a, spread_a), (b, spread_b) = means[better][figure], means[worse][figure]
        says = "comes out" if a != b and (a > b) == higher else "does not come out"
        weak = ", within the deviations" if abs(a - b) <= max(spread_a, spread_b) else ""
        lines.append(f"{better} before {worse}: {says} ({a:.2f} and {b:.2f}{weak}).")
    right = sum("comes out" in line for line in lines)
    return [f"Of the paper's order, {right} of {len(lines)} neighbours come out by {figure}:", *lines]


def conditioning_verdict(means: Summary) -> list[str]:
    """The paper's order, which is by FVD, by the loss and by the motions that videos show (section 4.1)."""
    by_loss = order_verdict(list(CONDITIONINGS), means, "loss", higher=False)
    return [*by_loss, *order_verdict(list(CONDITIONINGS), means, "motion")]


def interpolation_verdict(means: Summary) -> list[str]:
    """PSNR gained over the masked baseline, and how much less time and arithmetic ours takes (section 6.3)."""
    if not {OURS, MASKED} <= means.keys():
        return []
    ours, masked = means[OURS], means[MASKED]
    (gain, spread), (theirs, their_spread) = ours["gain"], masked["gain"]
    weak = "" if abs(gain - theirs) > max(spread, their_spread) else " (within the deviations)"
    lines = [f"Ours over masked at equal steps: {gain - theirs:+.2f} dB{weak}."]
    if max(gain, theirs) < 0:
        lines.append(
            "Neither has reached blended latents yet: so few steps say which learns faster, not which is best."
        )
    for batch, frames in TIMED:
        less = [masked[f"{kind} {batch}x{frames}"][0] / ours[f"{kind} {batch}x{frames}"][0] for kind in COSTS]
        lines.append(
            f"{batch} × {frames} frames: {less[0]:.2f} times less processor time, {less[1]:.2f} times fewer operations."
        )
    return lines


def _conditioning_rows(budget: Budget) -> list[Row]:
    return [Row(name, partial(measure_conditioning, budget, name)) for name in CONDITIONINGS]


def _interpolation_rows(budget: Budget) -> list[Row]:
    return [Row(name, partial(measure_interpolation, budget, kind)) for name, kind in ROWS_OF_INTERPOLATION.items()]


def _decoder_rows(budget: Budget) -> list[Row]:
    return [Row(name, partial(measure_decoder, budget, name)) for name in DECODERS]


CONDITIONING = Table(
    "conditioning",
    "Temporal conditioning (section 4.1, Table 1)",
    "Temporal parts trained over the bundled model's frozen image U-Net. `loss`: the denoising loss on held-out clips; "
    "`reads motion words`: the share of them that the right caption helps more than the opposite motion's; then the "
    "share of held-out prompts whose video shows what they say. The paper orders by FVD.",
    {
        "loss": "loss (× 1000)",
        "wins": "reads motion words (%)",
        "motion": "motion (%)",
        "shape": "shape (%)",
        "colour": "colour (%)",
        "all": "all (%)",
        "parameters": "temporal parameters (M)",
    },
    ("keyframe_steps", "training_clips", "prompts", "model"),
    _conditioning_rows,
    conditioning_verdict,
    {"loss": 1, "wins": 1, "motion": 1, "shape": 1, "colour": 1, "all": 1},
)
INTERPOLATION = Table(
    "interpolation",
    "Group against Masked Frame Interpolation (section 6.3, Table 2, Figure 7)",
    "Trained from the bundled model's image U-Net, both without the blend that the bundled interpolation starts from; "
    "groups with fresh outer layers (copied from the image U-Net, as the paper does, they learned no faster than the "
    "baseline in 1,200 steps). PSNR on unseen fast clips, 16 to 61 frames; time and operations of one pass over so "
    "many videos of so many frames.",
    {"psnr": "PSNR (dB)", "blend": "blended latents (dB)", "gain": "gain over them (dB)"}
    | {f"{kind} {b}x{t}": f"{kind} {b}x{t}" for b, t in TIMED for kind in COSTS},
    ("interpolation_steps", "training_clips", "clips", "model"),
    _interpolation_rows,
    interpolation_verdict,
)
DECODER = Table(
    "decoders",
    "Video decoders (section 4.3, Table 3)",
    "Trained from the bundled model's image autoencoder on sequences of 8 frames; measured on 61 frames of unseen "
    "clips, true latents.",
    {
        "psnr": "PSNR (dB)",
        "ssim": "SSIM",
        "mse": "MSE",
        "flicker": "flicker (levels)",
        "parameters": "decoder parameters (M)",
    },
    ("decoder_steps", "clips", "model"),
    _decoder_rows,
    lambda means: order_verdict(sorted(DECODERS, key=lambda name: -DECODERS[name].paper_psnr), means, "psnr"),
    {"ssim": 4, "mse": 5, "flicker": 3},
)
