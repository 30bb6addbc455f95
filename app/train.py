"""``posemamba train``: names to networks and folders to motion, then ``lifter.training.train``."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

import lifter as lifters
from lifter.checkpoints import read_weights
from lifter.lift import build_for
from lifter.normalize import NORMALIZATIONS
from lifter.training.data import Recipe
from lifter.training.motion import load_motion
from lifter.training.train import SCHEDULES, train


def train_lifter(
    motion: Path, out: Path, minutes: float, lifter: str, schedule: str, normalization: str, start: Path | None,
    device: str, seed: int, report: Callable[[str], None],
) -> None:  # fmt: skip
    """Train ``lifter`` for ``minutes`` and say where the weights are.

    Raises:
        ValueError: Unknown lifter, schedule or normalization, or a time that is not positive.
        FileNotFoundError: No motion in the folder.
    """
    for name, value, known in (("schedule", schedule, SCHEDULES), ("normalization", normalization, NORMALIZATIONS)):
        if value not in known:
            raise ValueError(f"unknown {name} {value!r}; choose one of {', '.join(known)}")
    if not 0 < minutes < math.inf:
        raise ValueError(f"minutes must be positive and finite, got {minutes}")
    train_set, held_out = load_motion(motion, "train"), load_motion(motion, "validation")
    report(
        f"{train_set.minutes:.1f} minutes of motion, {held_out.minutes:.1f} held out; {minutes:g} minutes of training"
    )
    errors = train(
        train_set,
        held_out,
        lifters.create_model(lifter).config,  # type: ignore[arg-type]
        out,
        minutes=minutes,
        schedule=SCHEDULES[schedule],
        recipe=Recipe(normalization=normalization),
        device=device,
        seed=seed,
        start=None if start is None else starting_weights(start, lifter),
        command=shlex.join(["posemamba", *sys.argv[1:]]),
        report=report,
    )
    report(f"{out / 'weights.safetensors'}: " + ", ".join(f"{name} {value:.1f} mm" for name, value in errors.items()))


def starting_weights(path: Path, lifter: str) -> dict[str, Tensor]:
    """Return the tensors of a weights file; ValueError if they are of another network than ``lifter``."""
    tensors = read_weights(path).tensors
    name, _, _ = build_for(tensors)
    if name != lifter:
        raise ValueError(f"{path} holds weights of {name}, expected {lifter}")
    return tensors
