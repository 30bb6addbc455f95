"""Training curves as a picture: what ``posemamba train`` wrote to CSV, drawn by matplotlib without a display."""

from __future__ import annotations

import csv
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from checkpoints import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure


ERRORS = {
    "noisy_p1": "simulated detections, MPJPE (scale-aligned)",
    "noisy_p2": "simulated detections, PA-MPJPE",
    "clean_p1": "ground-truth 2D, MPJPE (scale-aligned)",
    "clean_p2": "ground-truth 2D, PA-MPJPE",
}


def draw_curves(csvs: list[Path], png: Path) -> Path:
    """Write a picture of the training curves in ``csvs`` to ``png`` and return it.

    Above the validation errors in mm, below the loss, both over minutes of training. Several files are runs one after
    the other, each beginning with the weights of the one before: their minutes add up, and a line marks the change. The
    picture is written under a temporary name until it is whole.

    Args:
        csvs: Files with the columns ``minutes``, ``loss`` and any of ``ERRORS``; files without a row are skipped.
        png: Where the picture goes; its folder exists.

    Raises:
        FileNotFoundError: One of the files is missing.
        ValueError: No file has a row, or a file is no such CSV.
        RuntimeError: matplotlib is not installed.
    """
    figure = figure_of(csvs)
    with atomic_write(png) as part:
        figure.savefig(part, format="png", dpi=100)
    return png


def figure_of(csvs: list[Path]) -> Figure:
    """Return the curves as a figure of matplotlib; errors as ``draw_curves``."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure  # not pyplot: no display, no global state
    except ImportError as error:
        raise RuntimeError("drawing curves needs matplotlib: pip install -e '.[report]'") from error
    runs = [run for run in (read_curve(path) for path in csvs) if run["minutes"]]
    if not runs:
        raise ValueError(f"no rows in {', '.join(map(str, csvs)) or 'no file'}; expected curves of 'posemamba train'")
    figure = Figure(figsize=(9, 7), layout="constrained")
    FigureCanvasAgg(figure)
    errors, loss = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    begins = list(accumulate([run["minutes"][-1] for run in runs[:-1]], initial=0.0))
    for run, begin in zip(runs, begins, strict=True):
        _plot(run, begin, errors, loss, is_labeled=run is runs[0])
    for axes in (errors, loss):
        for begin in begins[1:]:
            axes.axvline(begin, color="0.6", linewidth=1)
        axes.grid(alpha=0.3)
    errors.set(ylabel="error on held-out subjects [mm]", ylim=(0, None))
    errors.legend()
    loss.set(xlabel="training [minutes]", ylabel="loss", yscale="log")
    return figure


def _plot(run: dict[str, list[float]], begin: float, errors, loss, *, is_labeled: bool) -> None:
    """Draw one run into the two axes, ``begin`` minutes to the right."""
    minutes = [begin + m for m in run["minutes"]]
    for column, label in ERRORS.items():
        if column in run:
            color, style = "C1" if column.endswith("p2") else "C0", "-" if column.startswith("noisy") else "--"
            errors.plot(minutes, run[column], style, color=color, label=label if is_labeled else None)
    if "loss" in run:
        loss.plot(minutes, run["loss"], color="C2")


def read_curve(path: Path) -> dict[str, list[float]]:
    """Return the known columns of a curve CSV: ``minutes``, ``loss`` and those of ``ERRORS`` that it has.

    Raises:
        FileNotFoundError: No such file.
        ValueError: No column ``minutes``, or a cell that is no number.
    """
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        known = [name for name in ("minutes", "loss", *ERRORS) if name in (reader.fieldnames or ())]
        if "minutes" not in known:
            raise ValueError(f"{path} has no column 'minutes'; expected a curve.csv of 'posemamba train'")
        try:
            rows = [[float(row[name]) for name in known] for row in reader]
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} holds a row that is not made of numbers: {error}") from error
    return {name: [row[i] for row in rows] for i, name in enumerate(known)}
