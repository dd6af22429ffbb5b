"""Stage 2 of the paper (section 4.2): the interpolation U-Net, the whole of which trains, from text-to-image weights.

33 frames at skip-frame s ∈ {1, ..., 12}, 9 of them keyframes; keyframes perturbed by up to 250 forward-diffusion steps;
10 % unconditional; v-prediction. `python -m training.train_interp --config training/configs/tiny_interp.yaml`
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fusionframes_core.errors import named
from fusionframes_core.models.unet.interpolation_unet import InterpolationCondition
from fusionframes_core.sampling.schedule import NoiseSchedule, add_noise

from .data.sources import Source, open_held_out, open_source
from .engine.figures import Figures, held_out_figures
from .engine.model_config import model_config
from .engine.run_settings import TrainSettings
from .engine.stage_command import run_command
from .engine.trainer import Batch, Trainer
from .moving_shapes.clips import WINDOW
from .objectives.denoising import NoiseLevels, check_share, denoising_loss
from .objectives.interpolation_architectures import architecture_named, interpolation_model
from .objectives.sample_videos import interpolation_sampler
from .train_image import load_text_encoder


def draw_perturbation(rng: np.random.Generator, count: int, limit: int, share: float) -> Tensor:
    """Forward-diffusion steps (count,) on the keyframes: 0..limit for `share` of the clips (section 5: all), else 0."""
    levels = np.where(rng.random(count) < share, rng.integers(0, limit + 1, count), 0)
    return torch.from_numpy(levels)


def perturb(keyframes: Tensor, levels: Tensor, schedule: NoiseSchedule) -> Tensor:
    """Diffuse keyframes (B, 4, K, h, w) forward by `levels` (B,) steps; 0 leaves them as they are."""
    alpha, sigma = schedule.alpha_sigma((levels - 1).clamp(min=0))
    noisy = add_noise(keyframes, torch.randn_like(keyframes), alpha, sigma)
    return torch.where((levels > 0).reshape(-1, 1, 1, 1, 1), noisy, keyframes)


def train(
    train: TrainSettings,
    clips: list[Path] | None = None,
    text_encoder: Path | None = None,
    validation_clips: list[Path] | None = None,
    data: list[Path] | None = None,
    image: Path | None = None,
    init: Path | None = None,
    preset: str = "tiny",
    input_copy: str = "first",
    output_copy: str = "replicate",
    high_share: float = 0.3,
    perturbed_share: float = 0.4,
    unconditional_share: float = 0.1,
    window: int = WINDOW,
    least_weight: float = 0.1,
    base: str | None = None,
    architecture: str = "groups",
    movq: Path | None = None,
    validation_data: list[Path] | None = None,
) -> None:
    """Train the interpolation U-Net of `preset` and write `interpolation.safetensors` to the run's folder.

    Args:
        train: the run: output folder, steps, batch size (videos), rates.
        clips: window latents of Moving Shapes, made by training.latents.
        text_encoder: folder with the text encoder, for its null embedding.
        validation_clips: window latents of held-out combinations.
        data: instead of clips, folders made by training.prepare.
        image: text-to-image weights to start from: a file of train_image, or of a keyframe U-Net.
        init: interpolation weights to start from instead.
        preset: model whose interpolation configuration is trained.
        input_copy: where the image's input kernel goes (appendix 9: `first`).
        output_copy: `replicate` (appendix 9) or `fresh`.
        high_share: share of the noise levels drawn from the upper half.
        perturbed_share: share of the clips whose keyframes are perturbed, by 0 to the model's limit steps.
        unconditional_share: share of the clips without keyframes and temporal layers (eq. 5, m = 0).
        window: frames taken of each clip, 4·G + 1.
        least_weight: samples are weighted by σ² but not below this; 1 weights all alike.
        base: "zero" or "blend" instead of what the preset's groups are differences from.
        architecture: "groups", or "masked" for Masked Frame Interpolation (appendix 10), the baseline.
        movq: the preset's video autoencoder, for sample videos.
        validation_data: instead of validation_clips, folders made by training.prepare.
    """
    check_share("perturbed_share", perturbed_share)
    check_share("unconditional_share", unconditional_share)
    torch.manual_seed(train.seed)  # of the initial weights
    config, kind = model_config(preset), architecture_named(architecture)
    model = interpolation_model(preset, image, init, input_copy, output_copy, architecture)
    encoder = load_text_encoder(text_encoder, preset) if text_encoder else None
    source = open_source(data, clips, encoder, "windows", window)
    null = source.null_context()
    held_out = open_held_out(validation_data, validation_clips, encoder, "windows", window)
    schedule = NoiseSchedule.from_config(config.interpolation_schedule)
    subtract = named(kind.bases, "base", base or config.interpolation.base)
    prediction, levels = config.interpolation_schedule.prediction, NoiseLevels(high_share)

    def make_batch(rng: np.random.Generator, source: Source = source, count: int = train.batch_size) -> Batch:
        drawn = source.windows(rng, count, window)
        return {
            "video": drawn.latents,
            "skip_frames": drawn.skip_frames,
            "t": levels.draw(rng, count, schedule.num_steps),
            "perturbation": draw_perturbation(rng, count, config.max_perturbation, perturbed_share),
            "conditional": torch.from_numpy(rng.random(count) >= unconditional_share),
        }

    def loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Figures]:
        keyframes, missing = kind.parts(batch["video"])
        count, conditional = len(keyframes), batch["conditional"]
        given = perturb(keyframes, batch["perturbation"], schedule) * conditional.reshape(-1, 1, 1, 1, 1)
        condition = InterpolationCondition(
            given,
            null.context.to(given.device).expand(count, -1, -1),
            null.mask.to(given.device).expand(count, -1),
            batch["skip_frames"],
            batch["perturbation"].float(),
            conditional,
        )
        return denoising_loss(
            lambda x, t: model(x, t, condition),
            missing - subtract(keyframes),
            batch["t"],
            schedule,
            prediction,
            least_weight,
        )

    def validate(model: nn.Module) -> dict[str, float]:
        torch.manual_seed(0)
        batch = make_batch(np.random.default_rng(1), held_out, 32)
        clean = {"perturbation": torch.zeros(32, dtype=torch.long), "conditional": torch.ones(32, dtype=torch.bool)}
        return held_out_figures(*loss(model, {**batch, **clean}))

    sample = None
    if train.sample_every:
        shown = (held_out or source).windows(np.random.default_rng(2), 1, window)
        sample = interpolation_sampler(config, kind.sample, null, shown, movq)
    name = "interpolation" if architecture == "groups" else f"{architecture} interpolation"
    measure = validate if held_out is not None else None
    built = {"interpolation": config.interpolation, "interpolation_schedule": config.interpolation_schedule}
    built |= {"base": base or config.interpolation.base}
    trainer = Trainer(
        train, model, loss, make_batch, measure, stage=name, sample=sample, frames=window, architecture=built
    )
    trainer.run()
    trainer.export("interpolation.safetensors")


if __name__ == "__main__":
    run_command(train)
