"""Tables of results, and the words in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.table import Table

GROUND_TRUTH_2D, SIMULATED_2D = "ground-truth 2D", "simulated detections"
MPJPE_PAIR = "MPJPE (scale-aligned) / PA-MPJPE"


@dataclass(frozen=True)
class Evaluation:
    """Tables on one subject."""

    title: str
    tables: list[Table]


def new_table(
    title: str, columns: Iterable[str], rows: Iterable[Iterable[str]] = (), caption: str | None = None
) -> Table:
    """Return a table whose first column is text and whose others are numbers."""
    table = Table(title=title, caption=caption)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=not number)
    for row in rows:
        table.add_row(*row)
    return table


def pair(first: float, second: float) -> str:
    """Return two errors in mm for one cell."""
    return f"{first:.1f} / {second:.1f}"
