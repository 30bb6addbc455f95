"""Several lifters in one table: how each was trained, and its errors on the same held-out motion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from app.evaluation.mocap_accuracy import window_errors
from app.evaluation.smoothness import SIMULATED, assess_smoothness, long_clips
from app.evaluation.tables import GROUND_TRUTH_2D, MPJPE_PAIR, SIMULATED_2D, new_table, pair
from app.options import Options
from app.pipeline import cached_lifter
from app.progress import Progress, silent
from lifter.training.mocap.library import load_motion
from lifter.training.provenance import training_runs
from lifter.training.validation import FRAMES
from lifter.weights import read_named


def compare_lifters(folder: Path, names: Sequence[str], options: Options, progress: Progress = silent) -> Table:
    """Return a table of lifters, names or weights files.

    Raises:
        FileNotFoundError: No motion in ``folder``, or no such weights.
        ValueError: A file does not hold weights, or its metadata are not those of ``posemamba train``.
    """
    library = load_motion(folder, "validation")
    clips = long_clips(library)
    table = new_table(
        f"lifters on held-out mocap, {library.minutes:.1f} minutes: 12 limb joints, mm, {MPJPE_PAIR}",
        ["lifter", "parameters", "trained for", GROUND_TRUTH_2D, SIMULATED_2D, f"whole clips, {SIMULATED_2D}",
         "acceleration ratio (worst clip)"],
        caption=f"windows of {FRAMES} frames, without cross-fade; last two columns: {len(clips)} whole clips, as the "
        "app lifts them",
    )  # fmt: skip
    for name in progress(names, "lifters", len(names)):
        lifter = cached_lifter(name, options.device, options.backend)
        errors = window_errors(lifter, library)
        s = assess_smoothness(lifter, clips, SIMULATED) if clips else None
        table.add_row(
            name, f"{sum(p.numel() for p in lifter.model.parameters()):,}", trained_for(name), *errors,
            pair(s.mpjpe_scaled, s.pa_mpjpe) if s else "-", s.acceleration_text if s else "-",
        )  # fmt: skip
    return table


def trained_for(name: str) -> str:
    """Return how long a lifter, a name or a weights file, was trained on what; "-" if its file does not say."""
    runs = [
        [run.get(key, "?") for key in ("training_minutes", "device", "steps")]
        for run in training_runs(read_named(name))
    ]
    return " + ".join(f"{minutes} min on {device}, {steps} steps" for minutes, device, steps in runs) or "-"
