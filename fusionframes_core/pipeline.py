"""Prompt to video: text encoder, keyframes, interpolation, decoder (paper, Figure 2 and section 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .checkpoints.component import ModelParts, StoredModel
from .checkpoints.offload import Models, OffloadedModels
from .checkpoints.open_model import open_model
from .checkpoints.temporal_blocks import AUTO
from .errors import require_finite
from .given_keyframes import Beginning
from .image_to_video import check_image, make_first_frame
from .media.frames import fit_image
from .models.casting import compute_dtype
from .models.movq.chunked_decode import decode_chunked
from .models.movq.decode_plan import decoder_for, plan_for
from .models.movq.frame_chunks import decode_frames, encode_frames
from .models.text_encoder import TextContext
from .models.unet.keyframe_unet import frame_positions
from .prompt_contexts import PromptContexts, check_prompts
from .sampling.callbacks import Callback, StageCallback, of_stage, run_callback
from .sampling.frame_rates import PASS_FACTOR, frames_by_time
from .sampling.guides import Guide
from .sampling.interpolation_sampling import interpolate
from .sampling.keyframe_sampling import sample_keyframes, sample_keyframes_from_image
from .sampling.noise import KEYFRAME_STAGE, interpolation_stage, stage_noise
from .sampling.options import ContextPair, InterpolationOptions
from .sampling.stage_sampler import Given, StageSampler
from .settings import GenerationSettings, ResolvedImageSettings, ResolvedSettings, latent_size


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
    settings: ResolvedSettings

    @property
    def num_frames(self) -> int:
        """Number of frames T of each video."""
        return self.frames.shape[2]


class FusionFramesPipeline(Models):
    """The four models of a ModelParts and the way from a prompt to a video.

    Each stage is a method of its own; latents travel between them as float32 (B, 4, T, h, w). The callbacks of stages
    are `callback(step, total, x0)` with the whole video's predicted latents x0; see `sampling.callbacks`.
    """

    interpolator = staticmethod(interpolate)  # how the interpolation is sampled; another architecture brings its own

    def __init__(self, models: ModelParts | OffloadedModels, decode_chunk: int | None = None) -> None:
        """`decode_chunk`: frames decoded at once; None: as many as the decoder was trained with and memory allows."""
        super().__init__(models if isinstance(models, OffloadedModels) else OffloadedModels.of_parts(models))
        self.decode_chunk = decode_chunk
        self._contexts = PromptContexts(self.residency)

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        offload: str = "none",
        text_encoder: str | Path | None = None,
        text_mode: str = "full",
        temporal_blocks: str = AUTO,
        loras: Mapping[str | Path, float] | None = None,
    ) -> FusionFramesPipeline:
        """Load "tiny", a model folder or a folder of official files.

        `dtype` may be float8_e4m3fn: the U-Nets' matrices in 8 bits, everything else and all arithmetic in bf16.
        `offload` is where models are while another stage runs: "none" (on the device), "cpu" or "disk"; with "layers"
        a U-Net is in main memory while it works, too, and its blocks come to the device one by one.
        `text_encoder` is the folder of Flan-UL2 for official files, `text_mode` "full", "8bit", "4bit" or "layers".
        `temporal_blocks` is another temporal conditioning (paper section 4.1) whose weights lie in the folder, or
        "none", the image U-Net; `loras` are LoRA files of either U-Net and their strengths.
        Raises checkpoints.CheckpointError (a ValueError) when a file cannot be loaded.
        """
        model = open_model(name_or_folder, text_encoder, text_mode, temporal_blocks, loras)
        return cls.from_model(model, dtype, device, offload)

    @classmethod
    def from_model(
        cls,
        model: StoredModel,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        offload: str = "none",
        decode_chunk: int | None = None,
        compile: str = "none",
    ) -> FusionFramesPipeline:
        """Load what `open_model` has looked at; arguments as for `from_pretrained` and the pipeline itself.

        `compile` is how the U-Nets run: "none", "torch" (torch.compile) or "graphs" (CUDA graphs).
        """
        return cls(OffloadedModels.of_model(model, dtype, device, offload, compile), decode_chunk)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        settings: GenerationSettings | None = None,
        callback: StageCallback | None = None,
        image: Tensor | None = None,
        latents: Tensor | None = None,
        guides: Sequence[Guide] = (),
        **overrides: Any,
    ) -> GenerationResult:
        """Generate one video for each prompt ("" is unconditional).

        `settings` and keyword `overrides` are GenerationSettings; they are checked before any work (ValueError).
        `callback(stage, step, total, latents)` follows every step of the stages "keyframes", "interpolation 1", ...
        and "decode"; what it raises (Stopped is meant for that) ends the generation. A seed's keyframes
        are the same for every number of passes. `image` (3, H, W) or (B, 3, H, W) in [−1, 1], of any size, is the
        first frame (1.1 models; without one they draw it themselves); a fourth channel is alpha. Of other models,
        `latents` (B, 4, T, h, w), from `encode`, is a video to change as far as `denoise` says, and `guides`, from
        `guide`, are keyframes to hold in their places. A stage that makes NaN or infinity raises NotFinite (a
        ValueError), which names it.
        """
        prompts, beginning = check_prompts(prompt), Beginning(latents, guides)
        chosen = replace(settings or GenerationSettings(), **overrides)
        chosen = beginning.shaped(chosen, self.config).resolve(self.config)
        pixels = check_image(image, len(prompts), self.config)
        given = beginning.given(chosen, self.config, len(prompts))
        texts = self._contexts.encode_all(prompts, chosen)
        keyframes = self._keyframes(texts.keyframes, chosen, of_stage(callback, "keyframes"), pixels, given)
        latents = keyframes
        for index in range(chosen.passes):
            report = of_stage(callback, f"interpolation {index + 1}")
            latents = self._interpolate(latents, texts.interpolation, chosen, chosen.interpolation_pass(index), report)
        multiple = chosen.rate_multiple(self.config.fps)
        if multiple is not None:
            latents = latents[:, :, frames_by_time(chosen.num_frames, chosen.passes, multiple)]
        report = of_stage(callback, "decode")
        frames = self.decode(latents, callback=report, windows=chosen.decode_windows).cpu().float().clamp(-1, 1)
        fps = self.config.fps * float(multiple or PASS_FACTOR**chosen.passes)
        return GenerationResult(frames, keyframes.cpu(), latents.cpu(), fps, chosen)

    @torch.no_grad()
    def encode_text(self, prompts: list[str], stage: str = "keyframes") -> TextContext:
        """Contexts (B, N, D) of prompts for a stage ("keyframes" or "interpolation"); an empty one gets its null
        context."""
        return self._contexts.encode(prompts, stage)

    def sample_keyframes(
        self,
        text: TextContext,
        negative: TextContext | None = None,
        callback: Callback | None = None,
        height: int | None = None,
        width: int | None = None,
        image: Tensor | None = None,
        latents: Tensor | None = None,
        guides: Sequence[Guide] = (),
        **overrides: Any,
    ) -> Tensor:
        """Keyframe latents (B, 4, T, h, w) for contexts; `overrides` are the GenerationSettings of this stage.

        `image`, `latents` and `guides` are as for the pipeline itself.
        """
        own, beginning = self.config.size, Beginning(latents, guides)
        size = (height or own[0], width or own[1]) if height or width or latents is None else None
        asked = GenerationSettings(size=size, passes=0, **overrides)
        chosen = beginning.shaped(asked, self.config).resolve(self.config)
        pixels = check_image(image, text.context.shape[0], self.config)
        given = beginning.given(chosen, self.config, text.context.shape[0])
        return self._keyframes(self._contexts.keyframe_pair(text, negative), chosen, callback, pixels, given)

    def guide(
        self,
        image: Tensor,
        index: int,
        strength: float = 1.0,
        pull: float = 0.0,
        size: tuple[int, int] | None = None,
    ) -> Guide:
        """A picture (3, H, W) or (B, 3, H, W) in [−1, 1] as a guide; see `sampling.guides.Guide`.

        It is scaled and cropped to `size` (height, width), by default the model's own.
        """
        pixels = image if image.ndim == 4 else image[None]
        return Guide(self.encode(fit_image(pixels, size or self.config.size)[:, :, None]), index, strength, pull)

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

        `text` (`encode_text(prompts, "interpolation")`) is for models whose interpolation reads the prompt (None:
        unconditional); others ignore it. `guidance` is w of eq. 5. `overrides`: seed, sampler, perturbation.
        """
        count = latents.shape[2]
        if count < 2:
            raise ValueError(f"latents must have at least 2 frames to interpolate between; got {count}")
        chosen = GenerationSettings(
            passes=1,
            skip_frames=(skip_frames,),
            interpolation_guidance=guidance,
            interpolation_steps=steps,
            **overrides,
        ).resolve(self.config)
        return self._interpolate(latents, text, chosen, chosen.interpolation_pass(0), callback)

    @torch.no_grad()
    def decode(
        self,
        latents: Tensor,
        temporal: bool = True,
        callback: Callback | None = None,
        windows: str = "blended",
        chunk: int | None = None,
    ) -> Tensor:
        """Latents (B, 4, T, h, w) to pixels (B, 3, T, H, W), about [−1, 1], on the latents' device.

        In overlapping chunks of `chunk` frames (None: the pipeline's `decode_chunk`, else as many as the decoder was
        trained with and the free memory allows), so that memory is that of one, or in the official code's groups
        (`windows` "official"); `temporal=False` decodes frame by frame. The callback's steps are the chunks. Raises
        ValueError when the free memory does not allow one frame, or that many.
        """

        def report(done: int, total: int) -> None:
            run_callback(callback, done, total, latents)

        with self.residency.stage("movq") as movq:
            inputs = latents.to(self.device, compute_dtype(movq))
            if temporal:
                plan = plan_for(movq, inputs, chunk or self.decode_chunk, windows, latents.device)
                decoder = decoder_for(movq, plan)
                size = (plan.chunk, plan.overlap)
                pixels = decode_chunked(decoder, inputs, *size, report, latents.device, windows=windows)
            else:
                pixels = decode_frames(movq, inputs, latents.device, report)
            return require_finite("decode", pixels, compute_dtype(movq))

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, T, H, W) in [−1, 1] to latents (B, 4, T, h, w), float32, a few frames at a time."""
        with self.residency.stage("movq") as movq:
            return require_finite("encoding the video", encode_frames(movq, pixels, self.device), compute_dtype(movq))

    def _keyframes(
        self,
        texts: ContextPair,
        chosen: ResolvedSettings,
        callback: Callback | None,
        image: Tensor | None,
        given: Given,
    ) -> Tensor:
        config = self.config
        positions = frame_positions(config.frame_positions, chosen.num_frames, self.device).expand(texts.batch, -1)
        noise = stage_noise(chosen.seed, KEYFRAME_STAGE, texts.batch, self.device)
        sampler = StageSampler(config.keyframe_schedule, chosen.keyframe_sampling, noise, callback)
        if isinstance(chosen, ResolvedImageSettings):
            first = make_first_frame(self.residency, texts, chosen, image)
            with self.residency.stage("keyframe") as unet:
                latents = sample_keyframes_from_image(unet, texts, positions, first, chosen.image_guidance, sampler)
                return require_finite("keyframes", latents, compute_dtype(unet))
        with self.residency.stage("keyframe") as unet:
            latents = sample_keyframes(unet, texts, positions, latent_size(config, chosen.size), sampler, given)
            return require_finite("keyframes", latents, compute_dtype(unet))

    def _interpolate(
        self,
        latents: Tensor,
        text: TextContext | None,
        chosen: ResolvedSettings,
        options: InterpolationOptions,
        callback: Callback | None,
    ) -> Tensor:
        config = self.config
        batch, _, count = latents.shape[:3]
        texts = self._contexts.interpolation_pair(text, batch)
        noise = stage_noise(chosen.seed, interpolation_stage(count), batch, self.device)
        sampler = StageSampler(config.interpolation_schedule, chosen.interpolation_sampling, noise, callback)
        frames = latents.to(self.device, torch.float32)
        with self.residency.stage("interpolation") as unet:
            made = self.interpolator(unet, frames, texts, options, sampler, config.drop_temporal)
            return require_finite("interpolation", made, compute_dtype(unet))
