"""All chunks of a data set, in several processes, with a report; a run that was stopped goes on."""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from fusionframes_core.checkpoints.open_model import open_model
from fusionframes_core.checkpoints.state_dict import save_weights
from fusionframes_core.files import check_writable

from ..engine.durable_files import write_json
from .chunk_index import chunk_files
from .data_parts import Part, check_alike
from .data_report import NULL, REPORT, read_report, stored_null
from .encoder_identity import component_identity
from .items import DataError, DataSet
from .planning import Job, make_plan
from .recipe import Recipe
from .resuming import SETTINGS, keep_settings
from .stored_texts import padding_of
from .writing import Encoder, prepare_chunk

_process: dict[str, Encoder] = {}  # the encoder of a worker process, built once


def prepare(
    data: DataSet,
    out: Path,
    recipe: Recipe,
    chunk: int = 16,
    workers: int = 0,
    part: Part | None = None,
    drop_removed: bool = False,
) -> dict[str, Any]:
    """Prepare `data` into the folder `out` and return the report, which lies there as report.json.

    What is there already is kept: only videos and captions that are new or changed are encoded. `workers` processes
    work beside this one; 0: this one works. With a `part` its share goes into a folder of its own in `out`, which
    `merge` completes. Raises DataError when the data set, or what `out` holds already, does not fit, and, without
    `drop_removed`, when clips would be lost.
    """
    _check_folder(out)
    found, folder = data.find(chunk), out
    check_alike(out, part)
    if part:
        found, folder = part.share(found, chunk), part.folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / SETTINGS).exists() and chunk_files(folder):
        raise DataError(f"{folder} holds chunks but no {SETTINGS}: choose another folder")
    keep_settings(folder, _settings(data, recipe, chunk), "prepared", {})
    plan = make_plan(data, found, folder, recipe, chunk)
    if not drop_removed:
        plan.check_nothing_is_lost(folder)
    for leftover in folder.glob(".chunk_*"):  # of a run that was killed
        leftover.unlink()
    for path in {folder / REPORT, out / REPORT}:
        path.unlink(missing_ok=True)
    encoder = Encoder(recipe) if workers == 0 and plan.jobs else None
    work = Work(data, drop_removed)
    run = _run_here(work, plan.jobs, encoder) if encoder else _run_beside(work, plan.jobs, recipe, workers)
    for _ in tqdm(run, total=len(plan.jobs), desc="chunks", mininterval=2):
        pass
    if stored_null(folder) is None:
        save_weights({"text": (encoder or Encoder(recipe)).text("")}, folder / NULL, dtype=None)
    stored = {"text": dataclasses.asdict(padding_of(recipe.model)), "movq": _autoencoder(recipe)}
    report = read_report(folder, found) | stored
    write_json(folder / REPORT, report)
    return report


def _check_folder(out: Path) -> None:
    """Raise DataError where no chunks can lie in the folder `out`."""
    if out.exists() and not out.is_dir():
        raise DataError(f"out must name a folder; {out} is a file")
    try:
        str(out.absolute()).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"out must have a name in UTF-8, as safetensors files need it; got {str(out)!r}") from error
    check_writable(out / SETTINGS)


def _autoencoder(recipe: Recipe) -> dict[str, str]:
    """What encoded the frames: latents of one autoencoder are noise to another."""
    return component_identity(open_model(recipe.model, only=("movq",)).components["movq"])


@dataclasses.dataclass(frozen=True)
class Work:
    """What every chunk is made of and how."""

    data: DataSet
    drop_removed: bool

    def do(self, job: Job, encoder: Encoder) -> None:
        """Prepare one chunk."""
        prepare_chunk(self.data, job.chunk, encoder, job.path, self.drop_removed)


def _run_here(work: Work, jobs: list[Job], encoder: Encoder) -> Iterator[None]:
    for job in jobs:
        work.do(job, encoder)
        yield


def _run_beside(work: Work, jobs: list[Job], recipe: Recipe, workers: int) -> Iterator[None]:
    if not jobs:
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(recipe,)) as pool:
        running = [pool.submit(_work, work, job) for job in jobs]
        try:
            for done in as_completed(running):
                done.result()
                yield
        except BrokenProcessPool as error:
            raise DataError("a worker process died (out of memory?); the same command goes on where it was") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(recipe: Recipe) -> None:
    torch.set_num_threads(1)
    _process["encoder"] = Encoder(recipe)


def _work(work: Work, job: Job) -> None:
    work.do(job, _process["encoder"])


def _settings(data: DataSet, recipe: Recipe, chunk: int) -> dict[str, Any]:
    return {"data": {"layout": type(data).__name__, **data.choices}, **recipe.settings, "chunk": chunk}
