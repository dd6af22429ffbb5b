"""Prompt to video: text encoder, keyframes, interpolation, decoder (paper, Figure 2 and section 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .checkpoints import ModelParts, load_model_folder
from .config import ModelConfig
from .models.decode import decode_chunked
from .models.keyframe import frame_positions
from .models.text_encoder import TextContext
from .sampling.sampler import Callback, Stopped
from .sampling.schedule import NoiseSchedule, add_noise
from .settings import MOTION_SCORES, GenerationSettings
from .stages import (
    FirstImage,
    Sampling,
    interpolate,
    sample_image,
    sample_keyframes,
    sample_keyframes_from_image,
    stage_noise,
)

FPS_FACTOR = 4  # of one interpolation pass
ENCODE_CHUNK = 8  # frames
STILL_SCALE = 2  # 1.1 draws its first image at twice the video's size

StageCallback = Callable[[str, int, int, Tensor], "Stopped | None"]


@dataclass(frozen=True)
class GenerationResult:
    """A batch of videos.

    `frames` (B, 3, T, H, W) in [−1, 1], float32 on the CPU; `keyframe_latents` (B, 4, K, h, w) and `latents`
    (B, 4, T, h, w), float32; `fps` of the frames; `settings` with every default filled in.
    """

    frames: Tensor
    keyframe_latents: Tensor
    latents: Tensor
    fps: float
    settings: GenerationSettings

    @property
    def num_frames(self) -> int:
        """T."""
        return self.frames.shape[2]


class FusionFramesPipeline:
    """The four models of a ModelParts and the way from a prompt to a video.

    Each stage is a method of its own; latents travel between them as float32 (B, 4, T, h, w). The callbacks of stages
    are `callback(step, total, x0)` with the whole video's predicted latents x0; see `sampling.sampler.denoise`.
    """

    def __init__(self, parts: ModelParts) -> None:
        self.parts = parts
        self.config: ModelConfig = parts.config
        self.text_encoder, self.keyframe = parts.text_encoder, parts.keyframe
        self.interpolation, self.movq = parts.interpolation, parts.movq

    @classmethod
    def from_pretrained(
        cls, name_or_folder: str | Path, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> FusionFramesPipeline:
        """Load "tiny" or a model folder. Raises checkpoints.CheckpointError (a ValueError) when it cannot be loaded."""
        return cls(load_model_folder(name_or_folder, dtype, device))

    @property
    def models(self) -> tuple[nn.Module, ...]:
        """Text encoder, keyframe U-Net, interpolation U-Net, MoVQ."""
        return (self.text_encoder, self.keyframe, self.interpolation, self.movq)

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return next(self.keyframe.parameters()).device

    @property
    def num_bytes(self) -> int:
        """Memory of all weights."""
        return sum(tensor.nbytes for model in self.models for tensor in model.state_dict().values())

    def to(self, device: torch.device | str) -> FusionFramesPipeline:
        """Move every model; returns self."""
        for model in self.models:
            model.to(device)
        return self

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        settings: GenerationSettings | None = None,
        callback: StageCallback | None = None,
        **overrides: Any,
    ) -> GenerationResult:
        """Generate one video for each prompt ("" is unconditional).

        `settings` and keyword `overrides` are GenerationSettings; they are checked before any work (ValueError).
        `callback(stage, step, total, latents)` follows every step of the stages "keyframes", "interpolation 1", ...
        and "decode"; what it raises, or a Stopped that it returns, ends the generation. A seed's keyframes
        are the same for every number of passes.
        """
        prompts = _check_prompts(prompt)
        chosen = replace(settings or GenerationSettings(), **overrides).resolve(self.config)
        text = self.encode_text(prompts)
        negative = self.encode_text([chosen.negative_prompt] * len(prompts)) if chosen.negative_prompt else None
        keyframes = self._keyframes(text, negative, chosen, _stage(callback, "keyframes"))
        latents = keyframes
        for index in range(chosen.passes):
            latents = self.interpolate(
                latents,
                text=text,
                seed=chosen.seed,
                steps=chosen.interpolation_steps,
                sampler=chosen.sampler,
                guidance=chosen.interpolation_guidance,
                skip_frames=chosen.skip_frames[index],
                perturbation=chosen.perturbation,
                callback=_stage(callback, f"interpolation {index + 1}"),
            )
        frames = self.decode(latents, callback=_stage(callback, "decode")).float().cpu().clamp(-1, 1)
        fps = self.config.fps * FPS_FACTOR**chosen.passes
        return GenerationResult(frames, keyframes.cpu(), latents.cpu(), fps, chosen)

    @torch.no_grad()
    def encode_text(self, prompts: list[str]) -> TextContext:
        """Contexts (B, N, D) of prompts; an empty one gets the null context."""
        return self.text_encoder.encode(prompts)

    def sample_keyframes(
        self,
        text: TextContext,
        negative: TextContext | None = None,
        callback: Callback | None = None,
        height: int | None = None,
        width: int | None = None,
        **overrides: Any,
    ) -> Tensor:
        """Keyframe latents (B, 4, T, h, w) for contexts; `overrides` are the GenerationSettings of this stage."""
        size = (height or self.config.size[0], width or self.config.size[1])
        chosen = GenerationSettings(size=size, passes=0, **overrides).resolve(self.config)
        return self._keyframes(text, negative, chosen, callback)

    def interpolate(
        self,
        latents: Tensor,
        text: TextContext | None = None,
        callback: Callback | None = None,
        skip_frames: int = 3,
        guidance: float | None = None,
        steps: int | None = None,
        **overrides: Any,
    ) -> Tensor:
        """One pass: latents (B, 4, T, h, w), T ≥ 2, to (B, 4, 4T − 3, h, w); the given frames stay as they are.

        `text` is for models whose interpolation reads the prompt (None: unconditional); others ignore it. `guidance`
        is w of eq. 5. `overrides`: seed, sampler, perturbation.
        """
        config = self.config
        batch, _, count = latents.shape[:3]
        if count < 2:
            raise ValueError(f"latents must have at least 2 frames to interpolate between; got {count}")
        chosen = GenerationSettings(
            passes=1,
            skip_frames=(skip_frames,),
            interpolation_guidance=guidance,
            interpolation_steps=steps,
            **overrides,
        ).resolve(config)
        latents = latents.to(self.device, torch.float32)
        null = self._null(text if config.interpolation_text else None, batch)
        contexts = (text.to(self.device) if config.interpolation_text and text is not None else null, null)
        # The number of frames tells the passes of one video apart, however they are called.
        noise = stage_noise(chosen.seed, f"interpolation of {count}", batch, self.device)
        sampling = Sampling(config.interpolation_schedule, _known(chosen.interpolation_steps), chosen.sampler, callback)
        levels, weight = (skip_frames, chosen.perturbation), _known(chosen.interpolation_guidance)
        drop = config.drop_temporal
        return interpolate(self.interpolation, latents, contexts, weight, levels, noise, sampling, drop)

    @torch.no_grad()
    def decode(self, latents: Tensor, temporal: bool = True, callback: Callback | None = None) -> Tensor:
        """Latents (B, 4, T, h, w) to pixels (B, 3, T, H, W), about [−1, 1], on the latents' device.

        In overlapping chunks, so that memory is that of one; `temporal=False` decodes frame by frame. The callback's
        steps are the chunks.
        """
        inputs = latents.to(self.device, next(self.movq.parameters()).dtype)

        def report(done: int, total: int) -> None:
            answer = callback(done, total, latents) if callback is not None else None
            if isinstance(answer, Stopped):
                raise answer

        if temporal:
            return decode_chunked(self.movq, inputs, callback=report, output_device=latents.device)
        chunks = inputs.split(ENCODE_CHUNK, dim=2)
        decoded = []
        for index, chunk in enumerate(chunks):
            decoded.append(self.movq.decode(chunk, temporal=False).to(latents.device))
            report(index + 1, len(chunks))
        return torch.cat(decoded, dim=2)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, T, H, W) in [−1, 1] to latents (B, 4, T, h, w), float32, a few frames at a time."""
        dtype = next(self.movq.parameters()).dtype
        chunks = pixels.split(ENCODE_CHUNK, dim=2)
        return torch.cat([self.movq.encode(chunk.to(self.device, dtype)).float() for chunk in chunks], dim=2)

    def _keyframes(
        self, text: TextContext, negative: TextContext | None, chosen: GenerationSettings, callback: Callback | None
    ) -> Tensor:
        config = self.config
        batch = text.context.shape[0]
        text = text.to(self.device)
        other = negative.to(self.device) if negative is not None else self._null(text, batch)
        positions = frame_positions(config.frame_positions, _known(chosen.num_frames), device=self.device)
        positions = positions.expand(batch, -1)
        noise = stage_noise(chosen.seed, "keyframes", batch, self.device)
        sampling = Sampling(config.keyframe_schedule, _known(chosen.steps), chosen.sampler, callback)
        height, width = (side // self.movq.factor for side in _known(chosen.size))
        weight = _known(chosen.guidance)
        if not config.keyframe.image_input:
            size = (height, width)
            return sample_keyframes(self.keyframe, text, other, weight, positions, size, noise, sampling)
        image = self._first_image(text, other, chosen, sampling)
        return sample_keyframes_from_image(self.keyframe, text, other, weight, positions, image, noise, sampling)

    def _first_image(
        self, text: TextContext, negative: TextContext, chosen: GenerationSettings, sampling: Sampling
    ) -> FirstImage:
        """1.1: draw a still at twice the size, halve it, and put noise on its latent, uniform as upstream's."""
        batch = text.context.shape[0]
        height, width = (STILL_SCALE * side // self.movq.factor for side in _known(chosen.size))
        noise = stage_noise(chosen.seed, "image", batch, self.device)
        still = sample_image(
            self.keyframe,
            text,
            negative,
            _known(chosen.guidance),
            (height, width),
            noise,
            replace(sampling, callback=None),
        )
        pixels = self.decode(still, temporal=False).float().clamp(-1, 1)
        halved = functional.avg_pool3d(pixels, (1, STILL_SCALE, STILL_SCALE))
        latent = self.encode(halved)
        level = _known(chosen.noise_augmentation)
        alpha, sigma = NoiseSchedule.from_config(sampling.schedule).alpha_sigma(torch.tensor(level))
        uniform = torch.special.ndtr(noise(tuple(latent.shape)))
        latent = add_noise(latent, uniform, alpha, sigma)
        return FirstImage(latent, _known(chosen.image_guidance), MOTION_SCORES[_known(chosen.motion)], level)

    def _null(self, text: TextContext | None, batch: int) -> TextContext:
        """The null context, of the prompt's number of tokens as upstream (2 without a prompt)."""
        return self.text_encoder.null_context(batch, text.context.shape[1] if text is not None else 2)


def _known(value: Any) -> Any:
    """A setting that `resolve` has filled in."""
    assert value is not None
    return value


def _check_prompts(prompt: Any) -> list[str]:
    prompts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(prompts, list) or not prompts or not all(isinstance(text, str) for text in prompts):
        raise ValueError(f"prompt must be a string or a list of strings; got {prompt!r}")
    return prompts


def _stage(callback: StageCallback | None, name: str) -> Callback | None:
    return None if callback is None else partial(callback, name)
