"""What the command line's commands do. Everything that can be checked is checked before a model is loaded."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.component import StoredModel
from ..checkpoints.convert import convert_file
from ..checkpoints.inspect import inspect_path
from ..checkpoints.open_model import open_model
from ..checkpoints.temporal_blocks import AUTO
from ..config import ModelConfig
from ..files import check_writable
from ..media.frames import contact_sheet, enlarge, to_pixels, to_uint8
from ..media.read_video import open_video, read_video
from ..media.timeline import DEFAULT_RATE
from ..media.video_source import VideoSource
from ..media.write_video import check_output, check_side, video_writer, write_png, write_video, written_otherwise
from ..pipeline import FusionFramesPipeline
from ..sampling.frame_rates import PASS_FACTOR, frames_by_time
from ..settings import GenerationSettings, size_multiple
from ..value_checks import check_range
from .arguments import DTYPES, SLOW_FPS, given_settings
from .beginning import check_beginning, read_beginning
from .input_clip import read_clip
from .interpolating import Interpolation
from .memory_plan import check_fits, generation_bytes, memory_in_one_sentence, plan_interpolation

MAX_SCALE = 64


@memory_in_one_sentence()
def generate(arguments: argparse.Namespace) -> None:
    """Prompt → video file."""
    out = _check_output(arguments)
    sheet = _check_sheet(arguments.contact_sheet)
    model = _open(arguments)
    settings = GenerationSettings(**given_settings(arguments)).resolve(model.config)
    settings = check_beginning(settings, model.config, arguments)
    image = _read_image(arguments.image, model.config)
    multiple = settings.rate_multiple(model.config.fps) or Fraction(PASS_FACTOR**settings.passes)
    made = len(frames_by_time(settings.num_frames, settings.passes, multiple))
    device, dtype = _place(arguments)
    needed = generation_bytes(model.config, settings.size, made, dtype, arguments.decode_chunk)
    check_fits(needed, settings.size, device)
    check_side(out, settings.size, arguments.scale)
    pipeline = _load(model, arguments)
    given = read_beginning(pipeline, settings, arguments)
    with _progress() as report:
        result = pipeline(
            arguments.prompt, settings, callback=report, image=image, latents=given.latents, guides=given.guides
        )
    frames = enlarge(to_uint8(result.frames[0]), arguments.scale)
    write_video(frames, out, result.fps)
    if sheet is not None:
        write_png(contact_sheet(frames[_keyframes_of(len(frames), settings.num_frames, multiple)]), sheet)
    _report(out, frames.shape[:3], result.fps, f"seed {settings.seed}", written_otherwise(out, result.fps, 0))


@memory_in_one_sentence()
def interpolate(arguments: argparse.Namespace) -> None:
    """Video file → video file with three new frames between every two, for each pass, as long as the first."""
    out = _check_output(arguments)
    model = _open(arguments)
    config = model.config
    for lora in model.components["keyframe"].additions:
        raise ValueError(f"lora must be of the interpolation U-Net here; {lora.file.path} is of the keyframe U-Net")
    given = given_settings(arguments)
    check_range("passes", given.get("passes", 1), 1, 2)
    if arguments.max_frames is not None:
        check_range("max-frames", arguments.max_frames, 2, 10**6)
    rate = arguments.input_fps or DEFAULT_RATE
    video = open_video(arguments.input, arguments.allow_damaged, folder_rate=rate)
    size = given.get("size") or _nearest_size(video, config)
    settings = GenerationSettings(**{**given, "size": size})
    settings.validate(config)
    passes = max(1, settings.needed_passes(arguments.input_fps or video.facts.timeline.rate))
    device, dtype = _place(arguments)
    plan = plan_interpolation(config, size, passes, device, dtype, arguments.decode_chunk)
    check_fits(plan.bytes, size, device)
    check_side(out, size, arguments.scale)
    clip = read_clip(video, arguments)
    multiple = settings.rate_multiple(clip.rate)
    passes = max(1, settings.needed_passes(clip.rate))
    replace(settings, passes=passes, target_fps=None, multiplier=None).validate(config)
    pipeline = _load(model, arguments)
    text = pipeline.encode_text([arguments.prompt], "interpolation") if config.interpolation_text else None
    options = {
        "guidance": settings.interpolation_guidance,
        "steps": settings.interpolation_steps,
        **{name: getattr(settings, name) for name in ("seed", "sampler", "perturbation")},
    }
    rates = [clip.rate * PASS_FACTOR**index for index in range(passes)]
    skips = settings.skip_frames[:passes] if "skip_frames" in given else tuple(map(_skip_frames, rates))
    fps = clip.rate * (multiple or PASS_FACTOR**passes)
    written = 0
    with _progress() as report, video_writer(out, fps, clip.sound) as writer:
        work = Interpolation(pipeline, text, skips, options, plan.window, report, multiple)
        for picture in work.frames(clip.pictures(size), clip.count):
            writer.write(enlarge(picture[None], arguments.scale)[0])
            written += 1
    notes = [*clip.notes, *written_otherwise(out, fps, clip.sounds)]
    height, width = (side * arguments.scale for side in size)
    _report(out, (written, height, width), float(fps), f"{clip.count} frames before", notes)


def inspect(arguments: argparse.Namespace) -> None:
    """Print what a file or folder holds."""
    print(inspect_path(arguments.path))


def convert(arguments: argparse.Namespace) -> None:
    """Official weights file → ours, or back."""
    if Path(arguments.output).exists() and Path(arguments.output).resolve() == Path(arguments.input).resolve():
        raise ValueError(f"the output must be another file than the input; got '{arguments.output}'")
    check_writable(arguments.output)
    dtype = DTYPES[arguments.dtype] if arguments.dtype else None
    identity, count = convert_file(arguments.input, arguments.output, arguments.layout, dtype)
    print(f"{arguments.output}: {identity.title}, {count} tensors")


def _read_image(path: str | None, config: ModelConfig) -> Tensor | None:
    """The first frame that `--image` names, (1, 3, H, W) in [−1, 1]."""
    if path is None:
        return None
    if not config.keyframe.image_input:
        raise ValueError(f"image must be left out: {config.name} does not start from an image")
    frames, _ = read_video(path, max_frames=1)
    return to_pixels(frames)[None, :, 0]


def _keyframes_of(made: int, count: int, multiple: Fraction) -> list[int]:
    """Where the keyframes are among the frames that were made, or the frame nearest in time."""
    return [min(round(index * multiple), made - 1) for index in range(count)]


def _skip_frames(fps: float | Fraction) -> int:
    """The skip-frame value for interpolating a video of `fps` (paper: 2 → 8 FPS takes 3, 8 → 30 FPS takes 1)."""
    return 3 if fps <= SLOW_FPS else 1


def _nearest_size(video: VideoSource, config: ModelConfig) -> tuple[int, int]:
    """The video's own size as it is shown, rounded to what the model can take."""
    multiple = size_multiple(config)
    height, width = (max(multiple, round(side / multiple) * multiple) for side in video.facts.size)
    return height, width


def _check_output(arguments: argparse.Namespace) -> Path:
    check_range("scale", arguments.scale, 1, MAX_SCALE)
    return check_output(arguments.out)


def _check_sheet(path: str | None) -> Path | None:
    if path is None:
        return None
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"contact-sheet must be a .png file; got '{path}'")
    check_writable(path)
    if Path(path).is_dir():
        raise ValueError(f"contact-sheet must be a .png file; '{path}' is a folder")
    return Path(path)


def _open(arguments: argparse.Namespace) -> StoredModel:
    """The model that is meant, looked at."""
    return open_model(
        arguments.model,
        arguments.text_encoder,
        arguments.text_mode,
        getattr(arguments, "temporal_blocks", AUTO),
        {path: sum(much for name, much in arguments.lora if name == path) for path, _ in arguments.lora},
    )


def _load(model: StoredModel, arguments: argparse.Namespace) -> FusionFramesPipeline:
    device, dtype = _place(arguments)
    held = (arguments.offload, arguments.decode_chunk, arguments.compile)
    return FusionFramesPipeline.from_model(model, dtype, device, *held)


def _place(arguments: argparse.Namespace) -> tuple[torch.device, torch.dtype]:
    """Where the models work, and in which type."""
    device = _device(arguments.device)
    return device, DTYPES[arguments.dtype or ("fp32" if device.type == "cpu" else "bf16")]


def _device(name: str) -> torch.device:
    """The named device, tried. Raises ValueError when torch does not have it."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # the meta device allocates, but has no numbers
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device must be one that torch can use, such as cpu or cuda; got {name!r} ({reason})"
        ) from error
    return device


@contextmanager
def _progress() -> Iterator[Any]:
    """A stage callback that draws a bar for each stage (on a terminal only)."""
    from tqdm import tqdm

    bars: dict[str, Any] = {}

    def report(stage: str, step: int, total: int, latents: Tensor) -> None:
        if stage not in bars:
            bars[stage] = tqdm(total=total, desc=stage, disable=None, leave=False)
        bars[stage].update(step - bars[stage].n)
        if step == total:
            bars[stage].close()

    try:
        yield report
    finally:
        for bar in bars.values():
            bar.close()


def _report(out: Path, shape: Sequence[int], fps: float, more: str, notes: Sequence[str]) -> None:
    """What was written, `shape` (T, H, W), and in a line each what is to be known about it."""
    count, height, width = shape
    print(f"{out}: {count} frames, {height}x{width}, {fps:g} FPS, {more}")
    for note in notes:
        print(note)
