"""Training schedules: batch shapes over time, learning rates and loss weights; everything but the data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from lifter.training.losses import LossWeights


@dataclass(frozen=True)
class Stage:
    """Part of a training run.

    Attributes:
        until: Fraction of the budget at which the stage ends.
        shapes: (windows, frames) of the batches whose mean gradient makes a step: short windows for variety, long
            ones because that is what inference uses.
    """

    until: float
    shapes: tuple[tuple[int, int], ...]

    def shapes_for(self, config: Any) -> tuple[tuple[int, int], ...]:
        """Return the shapes for a network: as many frames in all, in windows that it takes.

        A network of fixed length gets its own window throughout, others none longer than it.
        """
        windows: dict[int, float] = {}
        for count, frames in self.shapes:
            length = config.window if config.fixed_length else min(frames, config.window)
            windows[length] = windows.get(length, 0) + count * frames / length
        return tuple((max(1, round(count)), frames) for frames, count in sorted(windows.items()))


@dataclass(frozen=True)
class Schedule:
    """A training recipe but for the data: stages, optimizers and loss.

    Attributes:
        stages: What is trained when.
        learning_rate: Of AdamW.
        muon_rate: Learning rate of Muon for the matrices inside the blocks; 0 leaves all to AdamW.
        weight_decay: Decoupled, for all.
        ema: Share of the old value that the averaged weights keep per step.
        drop_path: Largest stochastic depth, for networks that have it.
        layer_scale: What layer scales start at, for networks that have them; the published 1e-5 keeps blocks shut for
            long.
        decays_learn: False keeps A = -(1 ... 16), for which the compiled scan needs one exponential instead of 16.
        loss: Weights of the loss terms, at 50 frames per second.
        decay: How learning rates fall over the budget: "cosine", "linear", both to zero, or "none" for a run of unknown
            length; ``posemamba train --cooldown`` brings the rates of such a run to zero in a branch of it.
    """

    stages: tuple[Stage, ...]
    learning_rate: float
    muon_rate: float
    weight_decay: float
    ema: float
    drop_path: float
    layer_scale: float
    decays_learn: bool
    loss: LossWeights
    decay: str = "cosine"


def scaled(schedule: Schedule, factor: float) -> Schedule:
    """Return a schedule with all learning rates times ``factor``."""
    return replace(schedule, learning_rate=schedule.learning_rate * factor, muon_rate=schedule.muon_rate * factor)


OURS = Schedule(
    stages=(),
    learning_rate=2e-3,
    muon_rate=1e-2,
    weight_decay=0.01,
    ema=0.999,
    drop_path=0.0,
    layer_scale=0.1,
    decays_learn=False,
    loss=LossWeights(position=1.0, scale=0.5, velocity=4.0, smoothness=0.0),
)
SCHEDULES = {
    # A CPU: some 140 frames a step, first of many poses.
    "laptop": replace(
        OURS,
        stages=(Stage(0.60, ((16, 9),)), Stage(0.85, ((5, 27),)), Stage(1.00, ((1, 81), (1, 243)))),
        ema=0.995,
    ),
    # A GPU: some 4000 frames a step.
    "full": replace(OURS, stages=(Stage(0.70, ((64, 27), (12, 81), (5, 243))), Stage(1.00, ((16, 81), (10, 243))))),
    # A CPU for days: some 600 frames a step, enough of them in long windows to learn what these are good for.
    "long": replace(
        scaled(OURS, 0.5), stages=(Stage(1.00, ((8, 27), (2, 81), (1, 243))),), decay="none"
    ),
    # PoseMamba's code; the others were published with other recipes.
    "published": replace(
        OURS, stages=(Stage(1.00, ((4, 243),)),), learning_rate=2e-4, muon_rate=0.0, ema=0.0, drop_path=0.2,
        layer_scale=1e-5, decays_learn=True, loss=LossWeights(),
    ),
}  # fmt: skip
