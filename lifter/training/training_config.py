"""How a run is trained, in one object."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lifter.training.augmentation.config import AugmentationConfig
from lifter.training.schedules import Schedule


@dataclass(frozen=True, eq=False)
class InitialWeights:
    """What a new run begins with, and where it comes from (None for nothing to say)."""

    tensors: dict[str, Tensor]
    provenance: dict[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class TrainingConfig:
    """How to train.

    Attributes:
        minutes: Training time in all, resumed runs included; of a branch, beyond the run that it leaves.
        schedule: Batches, optimizers and loss.
        recipe: How far windows stray from the recordings.
        device: Where to train.
        seed: Of all random draws.
        initial: Weights of the same network.
        branch_of: ``state.pt`` of another run, from which this one goes on, its rates falling from what they are in
            ``schedule``.
        command: What was typed, for the provenance.
    """

    minutes: float
    schedule: Schedule
    recipe: AugmentationConfig
    device: str = "cpu"
    seed: int = 0
    initial: InitialWeights | None = None
    branch_of: Path | None = None
    command: str = ""
