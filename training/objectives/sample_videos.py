"""Sample videos of a run that is under way: what the averaged weights draw, decoded to frames uint8 (T, H, W, 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from fusionframes_core.checkpoints.open_model import load_weights
from fusionframes_core.config import ModelConfig
from fusionframes_core.media.frames import to_uint8
from fusionframes_core.models.casting import compute_dtype
from fusionframes_core.models.movq.chunked_decode import decode_chunked
from fusionframes_core.models.movq.decode_plan import decoder_for, plan_for
from fusionframes_core.models.movq.movq import MoVQ
from fusionframes_core.models.text_encoder import TextContext, TextEncoder
from fusionframes_core.models.unet.keyframe_unet import frame_positions
from fusionframes_core.sampling.first_frame import FirstFrame, augment_with_noise
from fusionframes_core.sampling.keyframe_sampling import sample_image, sample_keyframes, sample_keyframes_from_image
from fusionframes_core.sampling.noise import AUGMENTATION_STAGE, KEYFRAME_STAGE, STILL_STAGE, stage_noise
from fusionframes_core.sampling.options import ContextPair, InterpolationOptions, SamplingOptions
from fusionframes_core.sampling.stage_sampler import StageSampler
from fusionframes_core.settings import IMAGE_GUIDANCE, latent_size, motion_score

from ..data.sources import Drawn
from ..engine.objective import Sampler
from .first_frame_objective import FirstFrameTraining


def load_movq(config: ModelConfig, path: Path | None) -> MoVQ:
    """The video autoencoder. Raises ValueError without a path: latents alone are no video."""
    if path is None:
        raise ValueError("sample_every needs movq, the weights that turn latents into a video; got none")
    movq = MoVQ(config.movq)
    load_weights(movq, path)
    return movq.eval().requires_grad_(False)


def decode_sample(movq: MoVQ, latents: Tensor) -> np.ndarray:
    """The first video of latents (B, 4, T, h, w) as frames, decoded where they are, in chunks of what is free there."""
    device, shown = latents.device, latents[:1].to(compute_dtype(movq))
    try:
        plan = plan_for(movq.to(device), shown)
    except ValueError:  # not even one frame fits beside what trains
        return to_uint8(movq.cpu().decode(shown.cpu())[0])
    pixels = decode_chunked(decoder_for(movq, plan), shown, plan.chunk, plan.overlap)
    movq.cpu()
    return to_uint8(pixels[0])


def keyframe_sampler(config: ModelConfig, encoder: TextEncoder, prompt: str, movq: Path | None) -> Sampler:
    """Draws keyframes of one prompt, always from the same noise."""
    texts = [encoder.encode([words]) for words in (prompt, "")]
    return draw_keyframes(config, texts, load_movq(config, movq), config.size)


def draw_keyframes(
    config: ModelConfig, texts: Sequence[TextContext], decoder: MoVQ, pixels: tuple[int, int]
) -> Sampler:
    """Draws keyframes of (height, width) `pixels` for the texts with and without the prompt."""
    positions = frame_positions(config.frame_positions, config.num_frames)
    size, options = latent_size(config, pixels), SamplingOptions(config.keyframe_schedule.steps, config.guidance)

    def sample(model: nn.Module) -> np.ndarray:
        device = next(model.parameters()).device
        sampler = StageSampler(config.keyframe_schedule, options, stage_noise(0, KEYFRAME_STAGE, 1, device))
        pair = ContextPair(*(text.to(device) for text in texts))
        latents = sample_keyframes(model, pair, positions.to(device)[None], size, sampler)
        return decode_sample(decoder, latents)

    return sample


def draw_continued(
    config: ModelConfig,
    texts: Sequence[TextContext],
    decoder: MoVQ,
    pixels: tuple[int, int],
    first: FirstFrameTraining,
) -> Sampler:
    """Draws a still and keyframes that continue it (1.1).

    The still is as large as the video. Whole videos are begun with one of twice the size, which takes the image's
    autoencoder to shrink.
    """
    positions, size = frame_positions(config.frame_positions, config.num_frames), latent_size(config, pixels)
    options = SamplingOptions(config.keyframe_schedule.steps, config.guidance)
    schedule, level = config.keyframe_schedule, first.noise_augmentation

    def sample(model: nn.Module) -> np.ndarray:
        device = next(model.parameters()).device

        def sampler(stage: str) -> StageSampler:
            return StageSampler(schedule, options, stage_noise(0, stage, 1, device))

        pair = ContextPair(*(text.to(device) for text in texts))
        still = sample_image(model, pair, size, sampler(STILL_STAGE))
        noise = stage_noise(0, AUGMENTATION_STAGE, 1, device)
        still = augment_with_noise(still, level, config.image_noise, schedule, noise)
        given = FirstFrame(still, motion_score(first.motion), level)
        latents = sample_keyframes_from_image(
            model, pair, positions.to(device)[None], given, IMAGE_GUIDANCE, sampler(KEYFRAME_STAGE)
        )
        return decode_sample(decoder, latents)

    return sample


def interpolation_sampler(
    config: ModelConfig, run: Callable[..., Tensor], null: TextContext, shown: Drawn, movq: Path | None
) -> Sampler:
    """Fills in the frames between the keyframes of the first clip `shown`, by `interpolate` or `interpolate_masked`."""
    return draw_interpolation(config, run, null, shown, load_movq(config, movq))


def draw_interpolation(
    config: ModelConfig, run: Callable[..., Tensor], null: TextContext, shown: Drawn, decoder: MoVQ
) -> Sampler:
    """`interpolation_sampler` with an autoencoder that is loaded."""
    keyframes, asked = shown.latents[:1, :, ::4], InterpolationOptions(skip_frames=int(shown.skip_frames[0]))
    options = SamplingOptions(config.interpolation_schedule.steps, config.interpolation_guidance)

    def sample(model: nn.Module) -> np.ndarray:
        device = next(model.parameters()).device
        sampler = StageSampler(config.interpolation_schedule, options, stage_noise(0, "interpolation", 1, device))
        pair = ContextPair(null.to(device), null.to(device))
        latents = run(model, keyframes.to(device), pair, asked, sampler, config.drop_temporal)
        return decode_sample(decoder, latents)

    return sample
