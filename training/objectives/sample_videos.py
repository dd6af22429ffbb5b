"""Sample videos of a run that is under way: what the averaged weights draw, decoded to frames uint8 (T, H, W, 3)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fusionframes_core.checkpoints.state_dict import load_weights
from fusionframes_core.config import ModelConfig
from fusionframes_core.media.frames import to_uint8
from fusionframes_core.models.movq.movq import MoVQ
from fusionframes_core.models.text_encoder import TextContext, TextEncoder
from fusionframes_core.models.unet.keyframe_unet import frame_positions
from fusionframes_core.sampling.keyframe_sampling import sample_keyframes
from fusionframes_core.sampling.noise import stage_noise
from fusionframes_core.sampling.stage import Sampling

from ..data.sources import Drawn
from ..engine.objective import Sampler


def load_movq(config: ModelConfig, path: Path | None) -> MoVQ:
    """The video autoencoder. Raises ValueError without a path: latents alone are no video."""
    if path is None:
        raise ValueError("sample_every needs movq, the weights that turn latents into a video; got none")
    movq = MoVQ(config.movq)
    load_weights(movq, path)
    return movq.eval().requires_grad_(False)


def text_on(device: torch.device, text: TextContext) -> TextContext:
    """The context on `device`."""
    return TextContext(text.context.to(device), text.mask.to(device))


def keyframe_sampler(config: ModelConfig, encoder: TextEncoder, prompt: str, movq: Path | None) -> Sampler:
    """Draws keyframes of one prompt, always from the same noise."""
    positions = frame_positions(config.frame_positions, config.num_frames)
    decoder = load_movq(config, movq)
    texts = [encoder.encode([words]) for words in (prompt, "")]
    side = [length // decoder.factor for length in config.size]

    def sample(model: nn.Module) -> np.ndarray:
        device = next(model.parameters()).device
        text, null = (text_on(device, entry) for entry in texts)
        noise = stage_noise(0, "keyframes", 1, device)
        how = Sampling(config.keyframe_schedule, config.keyframe_schedule.steps)
        place = positions.to(device)[None]
        latents = sample_keyframes(model, text, null, config.guidance, place, (side[0], side[1]), noise, how)
        return to_uint8(decoder.decode(latents.cpu())[0])

    return sample


def interpolation_sampler(
    config: ModelConfig, run: Callable[..., Tensor], null: TextContext, shown: Drawn, movq: Path | None
) -> Sampler:
    """Fills in the frames between the keyframes of the first clip `shown`, by `stages.interpolate` or its like."""
    decoder = load_movq(config, movq)
    keyframes, skip = shown.latents[:1, :, ::4], int(shown.skip_frames[0])

    def sample(model: nn.Module) -> np.ndarray:
        device = next(model.parameters()).device
        text, noise = text_on(device, null), stage_noise(0, "interpolation", 1, device)
        how = Sampling(config.interpolation_schedule, config.interpolation_schedule.steps)
        given, weight = keyframes.to(device), config.interpolation_guidance
        latents = run(model, given, (text, text), weight, (skip, 0), noise, how, config.drop_temporal)
        return to_uint8(decoder.decode(latents.cpu())[0])

    return sample
