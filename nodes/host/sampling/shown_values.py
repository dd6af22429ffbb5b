"""What a node works with, shown on it; and a warning of what its model can hardly do."""

from __future__ import annotations

from typing import Any

from ..comfy.memory import show, tell
from .model_values import VideoShape, own_sampling, own_settings
from .patches import HANDLER
from .sampling_options import HostSamplingOptions

FEW_STEPS = 8  # times fewer steps than a model was made for: no sampler makes up for that
FAR = 2  # times larger, smaller or longer than what a model was trained with


def show_sampling(model: Any, options: HostSamplingOptions, shape: VideoShape | None = None) -> None:
    """Say on the node what it works with, and warn of what its model can hardly do."""
    sampler = options.sampler or model.model.schedule.sampler
    parts = [] if shape is None else [str(shape)]
    parts += [f"{options.steps} step{'s' * (options.steps != 1)}", options.guidance_words, sampler]
    parts += [f"denoise {options.denoise:g}"] * (options.denoise < 1)
    show_values(model, ", ".join(parts), shape, options.steps)


def show_values(model: Any, words: str, shape: VideoShape | None = None, steps: int | None = None) -> None:
    """The same for values in words; what is far from the model's is a warning, in the log too."""
    show(words)
    far = far_values(model, shape, steps)
    if far:
        tell(f"{words}. {'; '.join(far)}")


def far_values(model: Any, shape: VideoShape | None, steps: int | None) -> list[str]:
    """What a MODEL can hardly do, each in a clause with the value that it was made for."""
    own, name = own_settings(model), model.model.config.name
    made_for, far = own_sampling(model).steps, []
    if steps is not None and steps * FEW_STEPS <= made_for:
        far.append(f"steps {steps} is far from the {made_for} that {name} was made for")
    if shape is None:
        return far
    pairs = [(shape.height, own.size[0]), (shape.width, own.size[1])]
    if any(side > FAR * trained or side * FAR < trained for side, trained in pairs):
        far.append(f"{shape.width}×{shape.height} pixels is far from the {own.size[1]}×{own.size[0]} of {name}")
    if shape.num_frames > FAR * own.num_frames and HANDLER not in model.model_options:
        far.append(
            f"{shape.num_frames} keyframes are far more than the {own.num_frames} of {name}: use FusionFrames Long "
            "Video before it"
        )
    return far
