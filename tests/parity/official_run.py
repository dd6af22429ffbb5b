"""Runs the official pipeline for a case: `python -m tests.parity.official_run CASE.safetensors OUT.safetensors`.

KANDINSKY_VIDEO_PATH names the official work trees; 1.1's needs diffusers. It has a process of its own because it puts
stand-ins into place for what they import and do not use, and answers torch's random numbers. CASE may lack its outputs.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.official_stages import official_module
from fusionframes_core.sampling.noise import AUGMENTATION_STAGE, KEYFRAME_STAGE, STILL_STAGE, interpolation_stage
from tests.helpers.pipeline_cases import (
    END,
    PADDING,
    UNKNOWN,
    PipelineCase,
    read_case,
    tokenizer_of,
    write_official_files,
)
from tests.parity.official_stand_ins import put_stand_ins

DRAWS = (torch.randn, torch.randn_like, torch.rand_like)


class Recording:
    """What a run drew from and made: the stage that is drawing, and outputs by name."""

    def __init__(self, case: PipelineCase) -> None:
        self.case, self.stage = case, ""
        self.sources: dict[str, Any] = {}
        self.made: dict[str, Tensor] = {}

    def draw(self, shape: tuple[int, ...], stage: str = "") -> Tensor:
        """The next draw of a stage, in the official layout."""
        stage = stage or self.stage
        if stage not in self.sources:
            with plain_randn():
                self.sources[stage] = self.case.noise_of(stage)
        with plain_randn():
            return self.sources[stage]((1, shape[1], shape[0], *shape[2:]))[0].transpose(0, 1).contiguous()

    def follow(self, owner: Any, name: str, output: str, stage: Any = None) -> None:
        """Let a method name its stage (of its arguments), and keep what it gives under `output`."""
        plain = getattr(owner, name)

        def called(*given: Any, **named: Any) -> Any:
            if stage is not None:
                self.stage = stage(*given)
            made = plain(*given, **named)
            self.made[output] = made
            return made

        setattr(owner, name, called)


@contextlib.contextmanager
def plain_randn() -> Iterator[None]:
    """torch's own, for drawing from a seed."""
    answered, torch.randn = torch.randn, DRAWS[0]
    try:
        yield
    finally:
        torch.randn = answered


@contextlib.contextmanager
def answered(recording: Recording) -> Iterator[None]:
    """torch's random numbers are the case's."""

    def randn(*shape: Any, **_: Any) -> Tensor:
        return recording.draw(tuple(shape[0]) if isinstance(shape[0], tuple | list) else shape)

    def rand_like(like: Tensor, **_: Any) -> Tensor:
        noise = recording.draw((1, *like.shape), AUGMENTATION_STAGE)[0]
        return torch.special.ndtr(noise)  # uniform, as ours makes it

    torch.randn, torch.rand_like = randn, rand_like  # type: ignore[assignment]
    torch.randn_like = lambda like, **_: recording.draw(tuple(like.shape))  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.randn, torch.randn_like, torch.rand_like = DRAWS


def loaded(model: nn.Module, tensors: dict[str, Tensor], prefix: str = "") -> Any:
    """The model with the case's weights, every one."""
    own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    model.load_state_dict(own, strict=True)
    return model.eval()


def pipeline_1_0(case: PipelineCase, folder: Path, recording: Recording) -> Any:
    """The official pipeline of 1.0 on a CPU, with T5 in float32: half precision is for a GPU."""
    networks, arguments = case.networks, case.networks.arguments
    module = official_module("1.0", "t2v_pipeline")
    module.torch = OnCPU()
    unet_class, movq_class = official_module("1.0", "model.unet").UNet, official_module("1.0", "movq").MoVQ
    first, second = networks.tensors("kandinsky_video.pt"), networks.tensors("kandinsky_video_interpolation.pt")
    text = str(folder / "text_encoder")
    processor = processor_of(case, {"t5": 128}, {"t5": text})
    encoders, half = official_module("1.0", "condition_encoders"), nn.Module.half
    nn.Module.half = lambda self: self  # type: ignore[method-assign, assignment]
    encoder = encoders.T5TextConditionEncoder({"t5": text}, 4096, {"t5": arguments["t5"]["d_model"]}).eval()
    nn.Module.half = half  # type: ignore[method-assign]
    loaded(encoder.projections, first, "projections.")
    unets = [
        loaded(unet_class(**arguments[name]), tensors, "unet.")
        for name, tensors in (("unet", first), ("interpolation", second))
    ]
    movq = loaded(movq_class(arguments["movq"]), networks.tensors("movq.pt"))
    nulls = [tensors["null_embedding"] for tensors in (first, second)]
    parts = (unets[0], nulls[0], unets[1], nulls[1], processor, encoder, movq)
    pipeline = module.VideoKandinsky3T2VPipeline("cpu", *parts, fp16=False)
    recording.follow(pipeline, "generate_base_frames", "keyframes", lambda *_: KEYFRAME_STAGE)
    stage = lambda _, frames, *__: interpolation_stage(frames.shape[0])  # noqa: E731
    recording.follow(pipeline, "interpolate_base_frames", "groups", stage)
    recording.follow(pipeline, "_reshape_temporal_groups", "latents")
    return pipeline


def processor_of(case: PipelineCase, *given: Any) -> Any:
    """The official text processor with the case's tokenizer, which is no SentencePiece model."""
    from transformers import PreTrainedTokenizerFast

    class Tokenizer:
        @staticmethod
        def from_pretrained(_: str) -> Any:
            tokens = {"pad_token": PADDING, "eos_token": END, "unk_token": UNKNOWN}
            return PreTrainedTokenizerFast(tokenizer_object=tokenizer_of(case.networks), **tokens)

    module = official_module(case.version, "condition_processors")
    module.T5Tokenizer = Tokenizer
    return module.T5TextConditionProcessor(*given)


class OnCPU:
    """torch for a module that asks for cuda:0 by name."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def arange(self, *given: Any, device: str = "cpu") -> Tensor:
        """On the CPU."""
        return torch.arange(*given)


def pipeline_1_1(case: PipelineCase, folder: Path, recording: Recording) -> Any:
    """The official pipeline of 1.1 on a CPU."""
    networks, arguments = case.networks, case.networks.arguments
    encoders = official_module("1.1", "condition_encoders")

    class Encoder:
        @staticmethod
        def from_pretrained(path: str, torch_dtype: Any = None, **_: Any) -> Any:
            import transformers

            return transformers.T5EncoderModel.from_pretrained(path, dtype=torch_dtype).eval()

    encoders.T5EncoderModel = Encoder  # without what accelerate and bitsandbytes are asked for
    unets = {
        "unet": official_module("1.1", "model.unet").UNet(**arguments["unet"]),
        "interpolation": official_module("1.1", "model.unet_interpolation").UNet(**arguments["interpolation"]),
    }
    movq_class = official_module("1.1", "movq").MoVQ
    first, second = networks.tensors("t2v.pt"), networks.tensors("interpolation.pt")
    text = str(folder / "text_encoder")
    processor = processor_of(case, 128, text)
    width = arguments["unet"]["context_dim"]
    encoder = encoders.T5TextConditionEncoder(text, str(folder / "t5_projections.pt"), width, device="cpu").eval()
    places = dict.fromkeys(("unet", "interpolation_unet", "text_encoder", "movq"), "cpu")
    pipeline = official_module("1.1", "t2v_pipeline").KandinskyVideoT2VPipeline(
        places,
        dict.fromkeys(places, torch.float32),
        loaded(unets["unet"], first, "unet."),
        first["null_embedding"],
        loaded(unets["interpolation"], second, "unet."),
        second["null_embedding"],
        processor,
        encoder,
        loaded(movq_class(arguments["movq"]), networks.tensors("movq.pt")),
        loaded(movq_class(arguments["video_movq"]), networks.tensors("video_movq.pt")),
    )
    diffusion = pipeline.base_diffusion
    recording.follow(diffusion, "p_sample_loop_image", "still", lambda *_: STILL_STAGE)
    recording.follow(diffusion, "p_sample_loop", "keyframes", lambda *_: KEYFRAME_STAGE)
    stage = lambda _, __, ___, frames, *____: interpolation_stage(frames.shape[0])  # noqa: E731
    recording.follow(diffusion, "p_sample_loop_interpolation", "groups", stage)
    recording.follow(pipeline, "interpolate_base_frames", "latents")
    recording.follow(pipeline, "encode_image", "image_latent")
    recording.follow(pipeline, "decode_image", "drawn")
    return pipeline


PIPELINES = {"1.0": pipeline_1_0, "1.1": pipeline_1_1}


def run(case: PipelineCase) -> dict[str, Tensor]:
    """The official pipeline's latents and frames for a case, in the official layout."""
    put_stand_ins(case.version)
    recording = Recording(case)
    call = dict(case.call)
    picture = case.picture
    if picture is not None:
        call["image"] = PIL.Image.fromarray(picture)
    with tempfile.TemporaryDirectory() as folder:
        write_official_files(case.networks, Path(folder))
        pipeline = PIPELINES[case.version](case, Path(folder), recording)
        with answered(recording), contextlib.redirect_stderr(io.StringIO()):
            frames = pipeline(**call)
    made = {name: recording.made[name] for name in ("keyframes", "latents", "still") if name in recording.made}
    if "image_latent" in recording.made:
        made["image_latent"] = recording.made["image_latent"][None]
    if "drawn" in recording.made:
        made["drawn"] = torch.from_numpy(np.array(recording.made["drawn"]))[None]
    made["frames"] = torch.from_numpy(np.stack([np.array(frame) for frame in frames]))
    return {name: value.detach().contiguous() for name, value in made.items()}


def main() -> None:
    """Run a case; its outputs go into a file of the same description."""
    source, target = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    case = read_case(source)
    with safe_open(source, "pt") as file:
        described = file.metadata()
    save_file({f"out/{name}": value for name, value in run(case).items()}, target, described)


if __name__ == "__main__":
    main()
