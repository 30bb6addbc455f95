"""Which parts of the recipe are worth it: short runs that differ in one thing each, scored on the same windows."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import nn

from checkpoints import atomic_write
from checkpoints.tensors import read_weights
from lifter.training.augmentation.config import BACK_AND_FORTH, AugmentationConfig
from lifter.training.losses import LossWeights
from lifter.training.mocap.library import MotionLibrary
from lifter.training.schedules import SCHEDULES, Schedule, Stage
from lifter.training.train import train
from lifter.training.training_config import TrainingConfig
from lifter.training.validation import validate

COLUMNS = ("name", "minutes", "frames_seen", "start", "window", "clean_p1", "clean_p2", "noisy_p1", "noisy_p2", "note")
SHORT = replace(SCHEDULES["laptop"], stages=(Stage(1.0, ((10, 27), (3, 81))),))  # the same batches for all
MIXED = replace(SCHEDULES["long"], decay="cosine")


@dataclass(frozen=True)
class Ablation:
    """One run.

    Attributes:
        note: What is special about it.
        schedule: How it is trained.
        recipe: On what.
        extras: Parts of the network that are off by default.
        frames: Frames of the windows that are scored, at 50 per second: short runs have not learned to use long ones.
    """

    note: str
    schedule: Schedule = SHORT
    recipe: AugmentationConfig = field(default_factory=AugmentationConfig)
    extras: tuple[str, ...] = ()
    frames: int = 81


def compared(note: str, schedule: Schedule = MIXED, fps: float = 25.0, extras: tuple[str, ...] = ("reads_scores",)):
    """Return a run of those that begin with trained weights; scored in windows of ten seconds."""
    return Ablation(note, schedule, AugmentationConfig(fps=fps, back_and_forth=BACK_AND_FORTH), extras, frames=486)


ABLATIONS: dict[str, Ablation] = {
    "as shipped": Ablation("Muon and AdamW"),
    "AdamW only": Ablation("learning rate 2e-3", replace(SHORT, muon_rate=0.0)),
    "published loss": Ablation("velocity 20, smoothness 0.5", replace(SHORT, loss=LossWeights())),
    "normalized by picture width": Ablation(
        "the published convention", recipe=AugmentationConfig(normalization="picture")
    ),
    "motion as recorded": Ablation(
        "nothing spliced, bent or tilted", recipe=AugmentationConfig(p_varied=0.0, p_tilt=0.0)
    ),
    "ground-truth 2D in training": Ablation("no simulated detections", recipe=AugmentationConfig(p_exact=1.0)),
    "level cameras": Ablation(
        "no high, low or moving cameras", recipe=AugmentationConfig(p_steep_camera=0.0, p_turning_camera=0.0)
    ),
    "rate 25": compared("25 frames per second, scores, windows of 27, 81 and 243 frames"),
    "rate 50": compared("50 frames per second, else the same", fps=50.0),
    "no scores": compared("x and y only, else as rate 25", extras=()),
    "short windows": compared("27 frames only, else as rate 25", replace(MIXED, stages=(Stage(1.0, ((23, 27),)),))),
}


def ablate(
    name: str, library: MotionLibrary, held_out: MotionLibrary, build: Callable[[], nn.Module], folder: Path,
    config: TrainingConfig,
) -> dict[str, str]:  # fmt: skip
    """Train one of ``ABLATIONS`` into ``folder``, which can be gone on with, and return its row.

    ``build`` returns the untrained network; schedule and recipe of ``config`` are replaced by those of the ablation.
    Minutes are of processor time on a CPU, so that runs on a busy machine stay comparable. All runs are scored with the
    cameras and detections of ``AugmentationConfig()``, in each run's own normalization and rate.
    """
    ablation, device = ABLATIONS[name], config.device
    config = replace(config, schedule=ablation.schedule, recipe=ablation.recipe)
    train(library, held_out, build, folder, config, clock=time.process_time if device == "cpu" else time.perf_counter)
    weights = read_weights(folder / "weights.safetensors")
    model = build().to(device).eval()
    model.load_state_dict(weights.tensors)
    scored = replace(AugmentationConfig(), normalization=ablation.recipe.normalization, fps=ablation.recipe.fps)
    errors = validate(model, held_out.to(device), scored, windows=96 if ablation.frames < 100 else 48,
                      frames=ablation.frames)  # fmt: skip
    frames = json.loads(weights.metadata["training"])["frames"]
    row = {
        "name": name, "minutes": f"{config.minutes:g}", "frames_seen": str(frames), "window": str(ablation.frames),
        "note": ablation.note,
    }  # fmt: skip
    return {**row, **{key: f"{value:.1f}" for key, value in errors.items()}}


def write_row(path: Path, row: dict[str, str]) -> None:
    """Put ``row`` into the CSV at ``path``, in place of one of the same name."""
    rows: list[dict[str, str]] = []
    if path.exists():
        with path.open(newline="") as file:
            rows = [old for old in csv.DictReader(file) if old["name"] != row["name"]]
    with atomic_write(path) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows([*rows, row])
