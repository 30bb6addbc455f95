"""Which parts of the recipe are worth it: short runs that differ in one thing each, scored on the same windows."""

from __future__ import annotations

import csv
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import nn

from lifter.checkpoints import read_weights
from lifter.training.data import Recipe
from lifter.training.evaluate import validate
from lifter.training.losses import LossWeights
from lifter.training.motion import MotionLibrary
from lifter.training.schedules import SCHEDULES, Schedule, Stage
from lifter.training.train import train

FRAMES = 81  # of the windows that are scored: short runs have not learned to use longer ones
COLUMNS = ("name", "minutes", "start", "clean_p1", "clean_p2", "noisy_p1", "noisy_p2", "note")
BASE = replace(SCHEDULES["laptop"], stages=(Stage(1.0, ((10, 27), (3, 81))),))  # the same batches for all
# name: (schedule, recipe, note)
ABLATIONS: dict[str, tuple[Schedule, Recipe, str]] = {
    "as shipped": (BASE, Recipe(), "Muon and AdamW"),
    "AdamW only": (replace(BASE, muon_rate=0.0), Recipe(), "learning rate 2.5e-3"),
    "published loss": (replace(BASE, loss=LossWeights()), Recipe(), "velocity 20, smoothness 0.5"),
    "normalized by picture width": (BASE, Recipe(normalization="picture"), "the published convention"),
    "motion as recorded": (BASE, Recipe(varied=0.0, tilt=0.0), "nothing spliced, bent or tilted"),
    "exact 2D in training": (BASE, Recipe(exact=1.0), "no simulated detector"),
    "level cameras": (BASE, Recipe(steep_camera=0.0, turning_camera=0.0), "no high, low or moving cameras"),
}


def ablate(
    library: MotionLibrary, held_out: MotionLibrary, build: Callable[[], nn.Module], out: Path, *, minutes: float,
    device: str, names: list[str], seed: int = 0, report: Callable[[str], None] = lambda line: None,
) -> None:  # fmt: skip
    """Train ``names`` of ``ABLATIONS`` for ``minutes`` each and write a row per run to the CSV ``out``.

    ``build`` returns the untrained network. Minutes are of processor time on a CPU, so that runs on a busy machine stay
    comparable. Rows of the same name are replaced. All runs are scored with the recipe as shipped, in each run's own
    normalization.
    """
    clock = time.process_time if device == "cpu" else time.perf_counter
    for name in names:
        schedule, recipe, note = ABLATIONS[name]
        with tempfile.TemporaryDirectory() as folder:
            train(library, held_out, build, Path(folder), minutes=minutes, schedule=schedule, recipe=recipe,
                  device=device, seed=seed, clock=clock)  # fmt: skip
            tensors = read_weights(Path(folder) / "weights.safetensors").tensors
        model = build().to(device).eval()
        model.load_state_dict(tensors)
        scored = replace(Recipe(), normalization=recipe.normalization)
        errors = validate(model, held_out.to(device), scored, windows=96, frames=FRAMES)
        row = {"name": name, "minutes": f"{minutes:g}", "start": "none", "note": note}
        write_row(out, {**row, **{key: f"{value:.1f}" for key, value in errors.items()}})
        report(f"{name}: " + ", ".join(f"{key} {value:.1f}" for key, value in errors.items()))


def write_row(path: Path, row: dict[str, str]) -> None:
    """Put ``row`` into the CSV at ``path``, in place of one of the same name."""
    rows: list[dict[str, str]] = []
    if path.exists():
        with path.open(newline="") as file:
            rows = [old for old in csv.DictReader(file) if old["name"] != row["name"]]
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows([*rows, row])
    part.replace(path)
