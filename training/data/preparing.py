"""All chunks of a data set, in several processes, with a report; a run that was stopped goes on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from tqdm import tqdm

from fusionframes_core.checkpoints.state_dict import save_weights

from ..engine.durable_files import write_json
from .items import DataError, DataSet, Found
from .resuming import SETTINGS, keep_settings
from .stored_texts import padding_of
from .writing import CHUNK_NAME, Encoder, Recipe, prepare_chunk

REPORT, NULL = "report.json", "null.safetensors"
_process: dict[str, Encoder] = {}  # the encoder of a worker process, built once


def prepare(data: DataSet, out: Path, recipe: Recipe, chunk: int = 16, workers: int = 0) -> dict[str, Any]:
    """Prepare `data` into the folder `out` and return the report, which lies there as report.json.

    Chunks that are there already are kept. `workers` processes work beside this one; 0: this one works. Raises
    DataError when the data set, or what `out` holds already, does not fit.
    """
    found = data.find(chunk)
    out.mkdir(parents=True, exist_ok=True)
    if not (out / SETTINGS).exists() and any(out.glob("chunk_*.safetensors")):
        raise DataError(f"{out} holds chunks but no {SETTINGS}: choose another folder")
    keep_settings(out, _settings(data, found, recipe, chunk), "prepared", {"videos": "another list of videos"})
    for leftover in out.glob(".chunk_*"):  # of a run that was killed
        leftover.unlink()
    (out / REPORT).unlink(missing_ok=True)
    encoder = Encoder(recipe) if workers == 0 else None
    todo = [(part, out / CHUNK_NAME.format(i)) for i, part in enumerate(found.chunks)]
    todo = [(part, path) for part, path in todo if not path.exists()]
    run = _run_here(data, todo, encoder) if encoder else _run_beside(data, todo, recipe, workers)
    for _ in tqdm(run, total=len(todo), desc="chunks", mininterval=2):
        pass
    if not (out / NULL).exists():
        save_weights({"text": (encoder or Encoder(recipe)).text("")}, out / NULL, dtype=None)
    report = read_report(out, found) | {"text": dataclasses.asdict(padding_of(recipe.model))}
    write_json(out / REPORT, report)
    return report


def _run_here(data: DataSet, todo: list[tuple[object, Path]], encoder: Encoder) -> Iterator[None]:
    for part, path in todo:
        prepare_chunk(data, part, encoder, path)
        yield


def _run_beside(data: DataSet, todo: list[tuple[object, Path]], recipe: Recipe, workers: int) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(recipe,)) as pool:
        jobs = [pool.submit(_work, data, part, path) for part, path in todo]
        try:
            for job in as_completed(jobs):
                job.result()
                yield
        except BrokenProcessPool as error:
            raise DataError("a worker process died (out of memory?); the same command goes on where it was") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(recipe: Recipe) -> None:
    torch.set_num_threads(1)
    _process["encoder"] = Encoder(recipe)


def _work(data: DataSet, part: object, path: Path) -> None:
    prepare_chunk(data, part, _process["encoder"], path)


def read_summary(path: Path) -> dict[str, Any]:
    """Clips and skipped videos of one chunk. Raises DataError when the file is not whole."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return json.loads(file.metadata()["summary"])
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no whole chunk: remove it and prepare again") from error


def read_report(out: Path, found: Found) -> dict[str, Any]:
    """What the chunks in `out` hold, and every video that was skipped."""
    summaries = [read_summary(out / CHUNK_NAME.format(index)) for index in range(len(found.chunks))]
    clips = [clip for summary in summaries for clip in summary["clips"]]
    skipped = [*found.skipped, *(tuple(entry) for summary in summaries for entry in summary["skipped"])]
    return {
        "chunks": len(summaries),
        "videos": sum(summary["videos"] for summary in summaries),
        "clips": len(clips),
        "frames": sum(clip["frames"] for clip in clips),
        "skipped": [{"video": video, "why": why} for video, why in skipped],
    }


def _settings(data: DataSet, found: Found, recipe: Recipe, chunk: int) -> dict[str, Any]:
    fields = {name: value for name, value in vars(data).items() if not name.startswith("_")}
    made = dataclasses.asdict(recipe)
    for name in ("device", "batch"):  # do not change what is made
        del made[name]
    content = hashlib.sha256(repr(found.chunks).encode()).hexdigest()
    return {"data": {"layout": type(data).__name__, **fields}, **made, "chunk": chunk, "videos": content}
