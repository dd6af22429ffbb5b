"""Evaluations of folders of videos: `generate` makes them; fvd, inception, clipsim, quality, motion measure them."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fusionframes_core.checkpoints.open_model import open_model
from fusionframes_core.files import atomic_path, home_path
from fusionframes_core.media.frames import to_uint8
from fusionframes_core.media.write_video import write_video
from fusionframes_core.settings import GenerationSettings

from ..data.prepared_clips import SEQUENCE, PreparedClips
from ..data.resuming import SETTINGS, keep_settings
from ..engine.command_line import BadInput, check_positive
from ..engine.durable_files import write_json
from ..moving_shapes.prompts_file import read_lines
from .clip_similarity import ClipSimilarity
from .distances import (
    FVD_FRAMES,
    FVD_VIDEOS,
    IS_FRAMES,
    IS_SPLITS,
    IS_VIDEOS,
    class_logits,
    frechet_distance,
    i3d_features,
    inception_score,
    load_script,
)
from .lpips import load_lpips, video_lpips
from .movement import MEASURES, movement
from .video_folders import CAPTIONS, batches_of, pairs_of, prompts_of, read_frames, video_files
from .video_metrics import flicker, mse, print_table, psnr, ssim

Metric = Callable[[Tensor, Tensor], Tensor]


def generate(arguments: argparse.Namespace) -> None:
    """Generate a video for every line of --prompts; under `accelerate launch`, every process makes its share.

    Goes on with what is in --videos, which must have been made with the same settings; prompts may be added at the end.
    """
    from accelerate import PartialState

    from .evaluated_models import load_pipeline

    state = PartialState(cpu=arguments.device == "cpu")
    prompts = read_lines(arguments.prompts)[: arguments.limit]
    names = [f"{index:05d}.mp4" for index in range(len(prompts))]
    options = {name: getattr(arguments, name) for name in ("guidance", "steps", "sampler", "passes")}
    resolved = GenerationSettings(seed=arguments.seed, **options).resolve(open_model(arguments.model).config)
    settings = {"model": arguments.model, **dataclasses.asdict(resolved), "prompts": prompts}
    made = [name for name in names if (arguments.videos / name).exists()]
    if made and not (arguments.videos / SETTINGS).exists():
        raise BadInput(f"{arguments.videos} holds {made[0]} but no {SETTINGS}: choose another folder")
    keep_settings(arguments.videos, settings, "generated", {"prompts": "other or more prompts"}, grows="prompts")
    state.wait_for_everyone()  # every process has compared before the first video is there
    pipeline = load_pipeline(arguments.model, {}, (), str(state.device))
    starts = range(0, len(prompts), arguments.batch)
    with state.split_between_processes(list(starts)) as mine:
        for start in tqdm(mine, desc="batches", disable=not state.is_main_process, mininterval=5):
            part = range(start, min(start + arguments.batch, len(prompts)))
            if all((arguments.videos / names[i]).exists() for i in part):
                continue
            # The pipeline gives the i-th prompt of a batch seed + i: a video depends on its number alone.
            result = pipeline([prompts[i] for i in part], seed=arguments.seed + start, **options)
            for i, frames in zip(part, result.frames, strict=True):
                write_video(to_uint8(frames), arguments.videos / names[i], result.fps)
    state.wait_for_everyone()
    if state.is_main_process:
        lines = [json.dumps({"video": name, "caption": text}) for name, text in zip(names, prompts, strict=True)]
        with atomic_path(arguments.videos / CAPTIONS) as partial:
            partial.write_text("\n".join(lines) + "\n", "utf-8")
        print(f"{len(prompts)} videos in {arguments.videos}")


def fvd(arguments: argparse.Namespace) -> None:
    """Fréchet Video Distance by StyleGAN-V's protocol: 2,048 videos of 16 frames, I3D as TorchScript (--i3d)."""
    network = _script(arguments.i3d, arguments.device)
    features = []
    for folder in (arguments.real, arguments.fake):
        files = _files(folder, arguments.videos, FVD_VIDEOS)
        videos = tqdm(batches_of(files, arguments.batch, arguments.frames), desc=str(folder), mininterval=5)
        features.append(i3d_features(network, videos, arguments.device))
    counts = {"real": len(features[0]), "fake": len(features[1])}
    _finish(arguments, {"fvd": frechet_distance(*features)}, {"frames": arguments.frames, "videos": counts})


def inception(arguments: argparse.Namespace) -> None:
    """Inception Score on 2,048 videos, first 16 frames, with a video classifier as TorchScript (--classifier)."""
    network = _script(arguments.classifier, arguments.device)
    files = _files(arguments.fake, arguments.videos, IS_VIDEOS)
    videos = tqdm(batches_of(files, arguments.batch, arguments.frames), desc=str(arguments.fake), mininterval=5)
    logits = class_logits(network, videos, arguments.input_size, arguments.device)
    mean, deviation = inception_score(logits, arguments.splits, arguments.seed)
    counts = {"frames": arguments.frames, "videos": len(logits), "splits": arguments.splits}
    _finish(arguments, {"inception_score": mean, "inception_score_deviation": deviation}, counts)


def clipsim(arguments: argparse.Namespace) -> None:
    """CLIPSIM: mean cosine between each frame and the prompt, by a CLIP of transformers (--clip FOLDER)."""
    similarity = ClipSimilarity(arguments.clip, arguments.device)
    pairs = prompts_of(arguments.fake, arguments.captions)[: arguments.videos]
    values = [
        similarity(batch[0], prompt)
        for path, prompt in tqdm(pairs, desc=str(arguments.fake), mininterval=5)
        for batch in batches_of([path], 1)
    ]
    _finish(arguments, {"clipsim": float(np.mean(values))}, {"videos": len(values)})


def quality(arguments: argparse.Namespace) -> None:
    """PSNR, SSIM, MSE, flicker and, with --lpips, LPIPS of videos against those of the same name in --real."""
    pairs = pairs_of(arguments.real, arguments.fake)[: arguments.videos]
    metrics = paired_metrics(arguments)
    values: dict[str, list[float]] = {name: [] for name in metrics}
    for real, fake in tqdm(pairs, desc="videos", mininterval=5):
        (target,), (output,) = (list(batches_of([path], 1, arguments.frames)) for path in (real, fake))
        if output.shape != target.shape:
            raise BadInput(f"{fake} must have the shape of {real}, {_shape(target)}; got {_shape(output)}")
        for name, metric in metrics.items():
            values[name].append(float(metric(output, target)))
    _finish(arguments, {name: float(np.mean(entries)) for name, entries in values.items()}, {"videos": len(pairs)})


def reconstruction(arguments: argparse.Namespace) -> None:
    """Encode and decode sequences of a prepared data set (pixels kept), as the paper does with Vimeo-90k."""
    from .evaluated_models import load_pipeline

    pipeline = load_pipeline(arguments.model, {}, (), arguments.device)
    clips, metrics = PreparedClips([arguments.data]), paired_metrics(arguments)
    values: dict[str, list[Tensor]] = {}
    frames = arguments.frames or SEQUENCE
    for index in tqdm(range(arguments.videos or len(clips.clips)), desc="sequences", mininterval=5):
        truth = clips.sequences(np.random.default_rng((arguments.seed, index)), 1, frames).frames
        latents = pipeline.encode(truth)
        for decoder, temporal in (("temporal", True), ("image", False)):
            output = pipeline.decode(latents, temporal=temporal)
            for name, metric in metrics.items():
                values.setdefault(f"{decoder}/{name}", []).append(metric(output, truth).cpu())
    figures = {name: torch.cat(entries).mean().item() for name, entries in values.items()}
    _finish(arguments, figures, {"sequences": len(values["image/psnr"]), "frames": frames})


def motion(arguments: argparse.Namespace) -> None:
    """Change, flicker, optical flow and warping error of videos, without others to compare them with."""
    files = video_files(arguments.fake)[: arguments.videos]
    rows = [movement(read_frames(path, arguments.frames)) for path in tqdm(files, desc="videos", mininterval=5)]
    means = {name: float(np.mean([row[name] for row in rows])) for name in MEASURES}
    _finish(arguments, means, {"videos": len(files), "measures": MEASURES})


def paired_metrics(arguments: argparse.Namespace) -> dict[str, Metric]:
    """The metrics of two videos (B, 3, T, H, W) in [−1, 1], each (B,); LPIPS where its network is named."""
    metrics: dict[str, Metric] = {"psnr": psnr, "ssim": ssim, "mse": mse, "flicker": flicker}
    if arguments.lpips is not None:
        network = load_lpips(arguments.lpips, arguments.lpips_net)
        metrics["lpips"] = lambda output, target: video_lpips(network, output, target)
    return metrics


def _script(path: Path, device: str) -> Callable[..., Tensor]:
    print(f"note: {path} is TorchScript, a program that runs with your rights", file=sys.stderr)
    return load_script(path, device)


def _files(folder: Path, count: int | None, wanted: int) -> list[Path]:
    files = video_files(folder)[: count or wanted]
    if len(files) < wanted:
        print(f"note: {len(files)} videos in {folder}; the protocol has {wanted}", file=sys.stderr)
    return files


def _shape(video: Tensor) -> str:
    return f"{video.shape[2]} frames of {video.shape[3]}x{video.shape[4]}"


def _finish(arguments: argparse.Namespace, figures: dict[str, float], more: dict[str, Any]) -> None:
    report = {"command": arguments.command, "figures": figures, **more}
    endless = {name: str(value) for name, value in figures.items() if not np.isfinite(value)}
    if endless:  # of JSON they are null: PSNR of two videos that are the same is infinite
        report["not_finite"] = endless
    if arguments.json is not None:
        write_json(arguments.json, report)
    print_table(arguments.command, ("measure", "value"), [(name, f"{value:.4f}") for name, value in figures.items()])


def add_commands(commands: Any) -> None:
    """The subcommands of `python -m training.evaluate` that measure folders of videos."""
    command = commands.add_parser("generate", help=generate.__doc__, allow_abbrev=False)
    command.add_argument("--prompts", type=home_path, required=True, help="text or JSONL, one prompt a line")
    command.add_argument("--videos", type=home_path, required=True, metavar="DIR", help="where the videos go")
    command.add_argument("--model", type=os.path.expanduser, default="tiny")
    command.add_argument("--guidance", type=float)
    command.add_argument("--passes", type=int, default=1)
    command.add_argument("--steps", type=int)
    command.add_argument("--sampler")
    command.add_argument("--limit", type=int)
    _add_common(command, generate, batch=4)
    for name, run in (("fvd", fvd), ("inception", inception), ("clipsim", clipsim), ("motion", motion)):
        _add_measure(commands, name, run)
    command = _add_measure(commands, "quality", quality)
    _add_lpips(command)
    command = commands.add_parser("reconstruction", help=reconstruction.__doc__, allow_abbrev=False)
    command.add_argument("--data", type=home_path, required=True, help="folder of training.prepare --keep pixels")
    command.add_argument("--model", type=os.path.expanduser, default="tiny")
    command.add_argument("--videos", type=int, help="sequences (default: as many as there are clips)")
    command.add_argument("--frames", type=int, help=f"of a sequence (default {SEQUENCE}; Vimeo-90k has 7)")
    _add_json(command)
    _add_common(command, reconstruction, batch=1)
    _add_lpips(command)


def _add_measure(commands: Any, name: str, run: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=run.__doc__, description=run.__doc__, allow_abbrev=False
    )
    command.add_argument("--fake", type=home_path, required=True, metavar="DIR", help="generated videos")
    if name in ("fvd", "quality"):
        command.add_argument("--real", type=home_path, required=True, metavar="DIR")
    frames = {"fvd": FVD_FRAMES, "inception": IS_FRAMES}.get(name)
    command.add_argument("--frames", type=int, default=frames, help=f"first frames of each (default {frames or 'all'})")
    command.add_argument("--videos", type=int, help="at most so many")
    if name == "fvd":
        command.add_argument(
            "--i3d", type=home_path, required=True, metavar="FILE", help="TorchScript: runs as a program"
        )
    if name == "inception":
        command.add_argument(
            "--classifier", type=home_path, required=True, metavar="FILE", help="TorchScript: a program"
        )
        command.add_argument("--input-size", type=int, default=112, help="its input's side (default 112)")
        command.add_argument("--splits", type=int, default=IS_SPLITS)
    if name == "clipsim":
        command.add_argument("--clip", type=home_path, required=True, metavar="FOLDER")
        command.add_argument("--captions", type=home_path, help=f"CSV or JSONL (default: {CAPTIONS} in --fake)")
    _add_json(command)
    _add_common(command, run, batch=8)
    return command


def _add_lpips(command: argparse.ArgumentParser) -> None:
    command.add_argument("--lpips", type=home_path, metavar="FILE", help="torchvision's weights of --lpips-net")
    command.add_argument("--lpips-net", default="alex", choices=("alex", "vgg"))


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", type=home_path, metavar="FILE", help="write the report there")


def _add_common(command: argparse.ArgumentParser, run: Callable[[argparse.Namespace], None], batch: int) -> None:
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--batch", type=int, default=batch)
    command.add_argument("--device", default="cpu")
    command.add_argument("--threads", type=int)
    command.set_defaults(run=checked(run))


def checked(run: Callable[[argparse.Namespace], None]) -> Callable[[argparse.Namespace], None]:
    """`run`, with counts checked first."""

    def check(arguments: argparse.Namespace) -> None:
        for name in ("frames", "splits", "input_size") + (("videos",) if arguments.command != "generate" else ()):
            check_positive(getattr(arguments, name, None), f"--{name.replace('_', '-')}")
        run(arguments)

    return check
