"""What every stage's configuration says about its run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

OPTIMIZERS = ("adamw", "adamw8bit")
SHARDS = ("none", "optimizer", "full")
PRECISIONS = ("no", "bf16", "fp16")
AT_LEAST_ONE = ("steps", "batch_size", "accumulation", "log_every", "checkpoint_every")
NOT_NEGATIVE = ("warmup_steps", "decay_steps", "weight_decay", "seed", "sample_every", "explosion")
POSITIVE = ("learning_rate", "clip_norm")


@dataclass
class TrainSettings:
    """How a stage is run.

    The global batch is batch_size × accumulation × processes. The learning rate warms up, stays constant, and falls
    linearly to zero over the last `decay_steps`; so a run can be ended early by resuming it with fewer `steps`.
    """

    output: Path
    steps: int
    batch_size: int  # per process and accumulated part
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
    mixed_precision: str = "no"  # "bf16", "fp16"
    shard: str = "none"  # "optimizer": ZeRO stage 1; "full": parameters too (FSDP)
    seed: int = 0
    log_every: int = 50
    checkpoint_every: int = 500
    sample_every: int = 0  # steps between sample videos, where the stage has one; 0: none
    explosion: float = 100.0  # stop at a loss so many times the mean of the last log_every steps; 0: never
    loader_threads: int | None = None  # that make coming batches during a step; None: one for a GPU, none on a CPU
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])
    resume: bool = True

    def __post_init__(self) -> None:
        self.output = Path(self.output)
        for name in AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        for name in NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0; got {getattr(self, name)}")
        for name in POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be greater than 0; got {getattr(self, name)}")
        if self.loader_threads is not None and self.loader_threads < 0:
            raise ValueError(f"loader_threads must be at least 0; got {self.loader_threads}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be at least 0 and less than 1; got {self.ema_decay}")
        for name, allowed in (("optimizer", OPTIMIZERS), ("shard", SHARDS), ("mixed_precision", PRECISIONS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}")

    def rate(self, step: int) -> float:
        """Factor on the learning rate at `step`."""
        warm = (step + 1) / max(1, self.warmup_steps)
        return max(0.0, min(1.0, warm, (self.steps - step) / max(1, self.decay_steps)))
