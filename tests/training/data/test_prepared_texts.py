"""Texts of prepared folders are what the encoder gives, and folders that do not fit together are refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fusionframes_core.checkpoints.model_folder import CONFIG_FILE
from fusionframes_core.checkpoints.open_model import model_folder
from fusionframes_core.models.text_encoder import TextContext
from fusionframes_core.pipeline import FusionFramesPipeline
from tests.helpers.video_clips import RECIPE, moving, write
from training.data.layouts import Folder
from training.data.prepared_clips import PreparedClips, context_of, with_nulls
from training.data.preparing import prepare


def test_a_dropped_caption_gets_the_null_embedding(prepared: Path) -> None:
    clips = PreparedClips([prepared])
    batch = clips.keyframes(np.random.default_rng(0), 2, num_frames=2)
    text = with_nulls(batch, clips.null, np.array([True, False]))
    null = FusionFramesPipeline.from_pretrained("tiny").encode_text([""])
    assert torch.equal(text.context[0][text.mask[0]], null.context[0][null.mask[0]].half().float())
    kept = batch.text.mask[1]
    assert torch.equal(text.context[1][text.mask[1]], batch.text.context[1][kept])


CAPTIONS = ("a star", "a large red circle moving left", "a small blue square, spinning, over white")


def tiny_that_pads(folder: Path, fixed_length: bool) -> Path:
    """The bundled model, whose contexts are all of `max_tokens` or as long as the longest prompt."""
    shutil.copytree(model_folder("tiny"), folder)
    config = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
    config["text"]["fixed_length"] = fixed_length
    (folder / CONFIG_FILE).write_text(json.dumps(config), "utf-8")
    return folder


def check_same(text: TextContext, wanted: TextContext) -> None:
    """Equal to the accuracy of float16, in which texts are stored; as many tokens, and the same ones attended to."""
    assert torch.equal(text.mask, wanted.mask)
    torch.testing.assert_close(text.context, wanted.context, atol=2e-3, rtol=2e-3)
    assert not text.context[~text.mask].any(), "padding is zero"


@pytest.mark.parametrize("fixed_length", [True, False])
def test_contexts_are_those_that_the_encoder_gives_for_the_captions(fixed_length: bool, tmp_path: Path) -> None:
    model = tiny_that_pads(tmp_path / "model", fixed_length)
    for index, caption in enumerate(CAPTIONS):
        write(tmp_path / "videos" / f"{index}.mp4", moving(9))
        (tmp_path / "videos" / f"{index}.txt").write_text(caption)
    prepare(Folder(tmp_path / "videos"), tmp_path / "out", replace(RECIPE, model=str(model)))
    pipeline, clips = FusionFramesPipeline.from_pretrained(model), PreparedClips([tmp_path / "out"])
    lengths = set()
    for seed in range(8):
        rng = np.random.default_rng(seed)
        batch = clips.keyframes(rng, 1 + seed % 3, num_frames=2, step=1)
        check_same(batch.text, pipeline.encode_text(batch.captions))
        gone = rng.random(len(batch.captions)) < 0.5
        kept = ["" if drop else caption for drop, caption in zip(gone, batch.captions, strict=True)]
        check_same(with_nulls(batch, clips.null, gone), pipeline.encode_text(kept))
        lengths.add(batch.text.mask.shape[1])
    check_same(context_of(clips.null), pipeline.encode_text([""]))
    check_same(context_of(clips.null), pipeline.text_encoder.null_context(1))
    assert (len(lengths) == 1) == fixed_length, "the captions differ in length"


def without_padding(out: Path, prepared: Path, model: str) -> Path:
    """A folder as it was written before the report said how texts are padded."""
    shutil.copytree(prepared, out)
    for name, change in (("report.json", lambda content: content.pop("text")), ("settings.json", dict)):
        content = json.loads((out / name).read_text("utf-8"))
        change(content)
        content |= {"model": model} if name == "settings.json" else {}
        (out / name).write_text(json.dumps(content), "utf-8")
    return out


def test_a_folder_that_does_not_say_how_it_pads_asks_its_model(prepared: Path, tmp_path: Path) -> None:
    known = PreparedClips([without_padding(tmp_path / "known", prepared, "tiny")])
    check_same(context_of(known.null), context_of(PreparedClips([prepared]).null))
    lost = without_padding(tmp_path / "lost", prepared, "nowhere")
    with pytest.raises(ValueError, match=r"lost does not say how its texts are padded.*prepare it again") as error:
        PreparedClips([lost])
    assert "\n" not in str(error.value)


def test_folders_that_do_not_fit_together_are_refused_before_anything_is_drawn(
    prepared: Path, videos: Path, tmp_path: Path
) -> None:
    prepare(Folder(videos), tmp_path / "large", replace(RECIPE, size=(16, 32)), chunk=4)
    prepare(Folder(videos), tmp_path / "pixels", replace(RECIPE, keep=("pixels",)), chunk=4)
    with pytest.raises(
        ValueError,
        match=r"data must name folders of one kind and size: latents are 4x2x2 in "
        r".*prepared\d+ and 4x2x4 in .*large",
    ):
        PreparedClips([prepared, tmp_path / "large"])
    with pytest.raises(ValueError, match=r"large holds latents and .*pixels holds pixels"):
        PreparedClips([tmp_path / "large", tmp_path / "pixels"])
    mixed = PreparedClips([prepared, tmp_path / "pixels"])
    assert mixed.sequences(np.random.default_rng(0), 8).frames.shape == (8, 3, 8, 16, 16), "both hold pixels"
    for seed in range(4):
        with pytest.raises(ValueError, match=r"pixels holds no latents: prepare it with --keep latents"):
            mixed.keyframes(np.random.default_rng(seed), 1, num_frames=2, step=1)
