"""What every stage's configuration says about its run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

CHOICES = {
    "optimizer": ("adamw", "adamw8bit"),
    "frozen": ("same", "bf16"),
    "shard": ("none", "optimizer", "full"),
    "mixed_precision": ("no", "bf16", "fp16"),
}
# Settings that exclude each other, and the way out.
EXCLUDED = (
    ("shard", "full", "optimizer", "adamw8bit", "8-bit states have no shards; shard optimizer spreads them"),
    ("shard", "full", "channels_last", True, "FSDP takes plain layouts only; shard optimizer takes both"),
    ("frozen", "bf16", "mixed_precision", "no", "frozen weights in 16 bits need mixed_precision bf16"),
    ("frozen", "bf16", "mixed_precision", "fp16", "frozen weights in 16 bits need mixed_precision bf16"),
)
Range = tuple[tuple[str, ...], str, Callable[[float], bool]]
MAX_SEED = 4_000_000_000  # numpy takes 32 bits, and every process adds its number
# Settings, what they must be, and whether a value is; no number at all, and so refused, is nan.
RANGES: tuple[Range, ...] = (
    (("steps", "batch_size", "accumulation", "log_every", "checkpoint_every"), "at least 1", lambda x: x >= 1),
    (("warmup_steps", "decay_steps", "weight_decay", "sample_every"), "at least 0", lambda x: x >= 0),
    (("explosion", "loader_threads"), "at least 0", lambda x: x >= 0),
    (("learning_rate", "clip_norm", "peak_tflops"), "greater than 0", lambda x: x > 0),
    (("ema_decay",), "at least 0 and less than 1", lambda x: 0 <= x < 1),
    (("seed",), f"from 0 to {MAX_SEED}", lambda x: 0 <= x <= MAX_SEED),
)


@dataclass(frozen=True)
class TrainSettings:
    """How a stage is run.

    The global batch is batch_size × accumulation × processes. The learning rate warms up, stays constant, and falls
    linearly to zero over the last `decay_steps`; so a run can be ended early by resuming it with fewer `steps`.
    """

    output: Path
    steps: int
    batch_size: int  # per process and micro-batch
    learning_rate: float
    warmup_steps: int = 100
    decay_steps: int = 200
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    optimizer: str = "adamw"  # or "adamw8bit": states in 8 bits, by bitsandbytes
    ema_decay: float = 0.998
    clip_norm: float = 1.0
    accumulation: int = 1
    activation_checkpointing: bool = False
    compile: bool = False  # torch.compile, block by block
    channels_last: bool = False  # kernels in the layout of the U-Nets' activations
    mixed_precision: str | bool = "no"  # "bf16", "fp16"; False is what YAML makes of a bare no
    frozen: str = "same"  # "bf16": kernels and matrices that do not train, in 16 bits
    shard: str = "none"  # "optimizer": ZeRO stage 1; "full": parameters too (FSDP)
    seed: int = 0
    log_every: int = 50
    checkpoint_every: int = 500
    background_checkpoints: bool | None = None  # written while steps go on, from a copy in main memory; None: on a GPU
    sample_every: int = 0  # steps between sample videos, where the stage has one; 0: none
    explosion: float = 100.0  # stop at a loss so many times the mean of the last log_every steps; 0: never
    loader_threads: int | None = None  # that make coming batches during a step; None: one for a GPU, none on a CPU
    peak_tflops: float | None = None  # of a card in the type of `mixed_precision`, for the log's mfu; None: by its name
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])
    resume: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "output", Path(self.output))
        if self.mixed_precision is False:
            object.__setattr__(self, "mixed_precision", "no")
        for names, requirement, holds in RANGES:
            for name in names:
                value = getattr(self, name)
                if value is not None and not (holds(value) and math.isfinite(value)):
                    finite = " and finite" if value == math.inf else ""
                    raise ValueError(f"{name} must be {requirement}{finite}; got {value}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two numbers, each at least 0 and less than 1; got {list(self.betas)}")
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}")
        for first, one, second, other, way_out in EXCLUDED:
            if (getattr(self, first), getattr(self, second)) == (one, other):
                raise ValueError(f"{first} {one} does not go with {second} {str(other).lower()}: {way_out}")

    def rate(self, step: int) -> float:
        """Factor on the learning rate at `step`."""
        warm = (step + 1) / max(1, self.warmup_steps)
        return max(0.0, min(1.0, warm, (self.steps - step) / max(1, self.decay_steps)))
