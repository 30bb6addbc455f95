"""What the command line prints: results to stdout; work in progress, bars and failures to stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress


def print_result(line: str) -> None:
    """Print one line of result to stdout."""
    typer.echo(printable(line))


def print_status(line: str) -> None:
    """Print one line about work in progress to stderr."""
    typer.echo(printable(f"  {line}"), err=True)


def print_error(line: str) -> None:
    """Print one line about a failure to stderr."""
    typer.echo(printable(f"error: {line}"), err=True)


def printable(text: str) -> str:
    """Return ``text`` with escapes for what a terminal would obey and for bytes of file names that are no text."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str) -> str:
    """Return ``text``, such as a file name, without line breaks: they become escapes, too."""
    return printable(text).replace("\n", "\\n")


def print_table(table: Any) -> None:
    """Print a rich table to stdout."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 140).print(table)


def show_progress(items: Iterable[Any], stage: str, total: int | None) -> Iterator[Any]:
    """Yield ``items`` behind a progress bar on a terminal, a plain line otherwise (both on stderr)."""
    if not sys.stderr.isatty():
        print_status(f"{stage} ...")
        yield from items
        return
    with bars() as shown:
        yield from watched(items, shown, stage, total)


def bars() -> Progress:
    """Return an empty set of progress bars with the time that is left, on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("  {task.description:8}", markup=False), BarColumn(), TextColumn("{task.fields[count]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    # Lines for stdout go through rich while bars are shown, unless stdout is a file or a pipe. Items may take minutes:
    # the time left is that of the last hour's rate.
    return Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty(),
        speed_estimate_period=3600,
    )  # fmt: skip


def watched(items: Iterable[Any], shown: Progress, stage: str, total: int | None) -> Iterator[Any]:
    """Yield ``items`` and move a bar of ``shown`` that goes away at the end."""
    task = shown.add_task(stage, total=total, count="")
    try:
        for number, item in enumerate(items, 1):
            yield item
            shown.update(task, advance=1, count=str(number) if total is None else f"{number}/{total}")
    finally:
        shown.remove_task(task)
