"""Errors on Human3.6M and MPI-INF-3DHP, by the published protocols; see ``lifter.benchmarks``."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from app.evaluation.tables import new_table
from app.options import Options
from app.pipeline import cached_lifter
from app.progress import Progress, silent
from lifter.benchmarks import h36m, mpi_inf_3dhp


def evaluate_h36m(path: Path, options: Options, progress: Progress = silent) -> Table:
    """Return errors by action."""
    lifter = cached_lifter(options.lifter, options.device, options.backend)
    data = h36m.read_h36m(path)
    scores = h36m.score_h36m(lifter, data, use_flip=options.use_flip, progress=lambda b, n: progress(b, "Human3.6M", n))
    rows = [
        (action, *(f"{errors[name]:.{2 if name == 'V' else 1}f}" for name in h36m.ERRORS))
        for action, errors in scores.items()
    ]
    return new_table(f"{options.lifter} on Human3.6M, S9 and S11, detected 2D", ["action", *h36m.ERRORS.values()], rows)


def evaluate_3dhp(path: Path, options: Options, use_published_scale: bool, progress: Progress = silent) -> Table:
    """Return errors by sequence."""
    lifter = cached_lifter(options.lifter, options.device, options.backend)
    scores = mpi_inf_3dhp.score_3dhp(
        lifter,
        mpi_inf_3dhp.read_3dhp(path),
        use_flip=options.use_flip,
        use_published_scale=use_published_scale,
        progress=lambda batches, total: progress(batches, "MPI-INF-3DHP", total),
    )
    rows = [
        (name, f"{errors['frames']:.0f}", *(f"{errors[key]:.1f}" for key in mpi_inf_3dhp.ERRORS))
        for name, errors in scores.items()
    ]
    columns = ["sequence", "frames", *mpi_inf_3dhp.ERRORS.values()]
    return new_table(f"{options.lifter} on MPI-INF-3DHP, ground-truth 2D", columns, rows)
