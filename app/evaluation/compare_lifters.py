"""Several lifters in one table: how each was trained, and its errors on the same held-out motion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from app.cli.train_run import training_runs
from app.evaluation.smoothness import DETECTOR_LIKE, assess_steadiness, long_clips
from app.options import Options
from app.pipeline import cached_lifter
from app.progress import Progress, silent
from lifter.training.augmentation_config import AugmentationConfig
from lifter.training.mocap.library import load_motion
from lifter.training.validation import FRAMES, validate
from lifter.weights import read_named

COLUMNS = ("lifter", "parameters", "trained for", "exact 2D", "detector-like 2D", "whole clips, detector-like 2D",
           "jitter over truth (worst clip)")  # fmt: skip


def side_by_side(folder: Path, names: Sequence[str], options: Options, progress: Progress = silent) -> Table:
    """Return a table of lifters, names or weights files.

    Raises:
        FileNotFoundError: No motion in ``folder``, or no such weights.
        ValueError: A file does not hold weights, or says of its training what ``posemamba train`` never writes.
    """
    library = load_motion(folder, "validation")
    clips = long_clips(library)
    table = Table(
        title=f"lifters on held-out mocap, {library.minutes:.1f} minutes: 12 limbs, mm, root-relative with one scale / "
        "Procrustes",
        caption=f"windows of {FRAMES} frames, without cross-fade; last two columns: {len(clips)} whole clips, as the "
        "app lifts them",
    )
    for column in COLUMNS:
        table.add_column(column)
    for name in progress(names, "lifters side by side", len(names)):
        lifter = cached_lifter(name, options.device, options.backend)
        e = validate(
            lifter.model,
            library.to(lifter.device),
            AugmentationConfig(normalization=lifter.normalization, fps=lifter.fps),
        )
        s = assess_steadiness(lifter, clips, DETECTOR_LIKE) if clips else None
        table.add_row(
            name, f"{sum(p.numel() for p in lifter.model.parameters()):,}", trained_for(name),
            f"{e['clean_p1']:.1f} / {e['clean_p2']:.1f}", f"{e['noisy_p1']:.1f} / {e['noisy_p2']:.1f}",
            f"{s['p1']:.1f} / {s['p2']:.1f}" if s else "-",
            f"{s['jitter_ratio']:.2f} ({s['worst_jitter_ratio']:.2f})" if s else "-",
        )  # fmt: skip
    return table


def trained_for(name: str) -> str:
    """Return how long a lifter, a name or a weights file, was trained on what; "-" if its file does not say."""
    runs = training_runs(read_named(name))
    said = [[run.get(key, "?") for key in ("training_minutes", "device", "steps")] for run in runs]
    return " + ".join(f"{minutes} min on {device}, {steps} steps" for minutes, device, steps in said) or "-"
