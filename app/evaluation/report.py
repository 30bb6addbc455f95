"""A page of results in Markdown: every table with the command and the machine that printed it."""

from __future__ import annotations

import datetime
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.table import Table

from app.bench.measure import machine
from app.evaluation.tables import Evaluation
from app.evaluation.training_curves import draw_curves
from app.options import Options
from app.pipeline import cached_lifter
from checkpoints import FOLDER, atomic_write, shipped
from lifter.training.train import git_revision

CURVES = "curves.png"
SECTION = re.compile(r"^## (.+)\n", re.MULTILINE)
HEAD = """# Results

Every table is printed by the command above it; with `--report` the command writes its section anew."""


def write_report(path: Path, evaluations: Sequence[Evaluation], options: Options) -> Path:
    """Write the tables into the page at ``path``, the training curves beside it, and return ``path``.

    Sections of a page that this function wrote stay, but for those with the same titles. Each file appears whole or not
    at all.

    Raises:
        ValueError: A curve cannot be read.
        RuntimeError: There are curves to draw and matplotlib is not installed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    old = SECTION.split(text)[1:] if text.startswith(HEAD) else []  # title, body, title, body, ...
    sections = dict(zip(old[::2], map(str.strip, old[1::2]), strict=True))
    sections |= {evaluation.title: _section(evaluation, options) for evaluation in evaluations}
    if curves := _curves(options.lifter, path.parent):
        sections[f"Training curves of {options.lifter}"] = curves
    parts = [HEAD, *(f"## {title}\n\n{body}" for title, body in sections.items())]
    with atomic_write(path) as part:
        part.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def _section(evaluation: Evaluation, options: Options) -> str:
    lifter = cached_lifter(options.lifter, options.device, options.backend)
    weights = lifter.provenance["weights"]
    lines = [
        f"- {datetime.date.today().isoformat()}, {machine(lifter.device)}",
        f"- code: {git_revision()} (`+`: with changes that were not committed)",
        f"- lifter: {lifter.name}, 2D normalized by {lifter.normalization}, unit {lifter.unit}, "
        f"scan {lifter.provenance['scan_backend']} on {lifter.device}",
        f"- weights: `{weights['file']}`, SHA-256 `{weights['sha256']}`",
        f"- 2D from pixels: {options.detector}, quality {options.quality}",
    ]
    command = _code(shlex.join(["posemamba", *sys.argv[1:]]))
    return "\n\n".join([command, "\n".join(lines), *map(markdown, evaluation.tables)])


def _code(command: str) -> str:
    return f"```\n{command}\n```"


def markdown(table: Table) -> str:
    """Return a table with its title and caption as Markdown."""
    rows = zip(*(column.cells for column in table.columns), strict=True)
    marks = ["---:" if column.justify == "right" else "---" for column in table.columns]
    lines = [_row(column.header for column in table.columns), _row(marks), *map(_row, rows)]
    text = [f"**{table.title}**", "\n".join(lines)]
    return "\n\n".join([*text, str(table.caption)] if table.caption else text)


def _row(cells: Iterable[object]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _curves(lifter: str, folder: Path) -> str:
    """Return the section on training curves and draw them; "" for weights that the manifest has no curves of."""
    included = shipped()
    entry = included[lifter].details if lifter in included else {}
    curves = [FOLDER / name for name in entry.get("curves", ())]
    if not curves:
        return ""
    draw_curves(curves, folder / CURVES)
    files = ", ".join(f"`checkpoints/{file.name}`" for file in curves)
    commands = _code("\n".join(entry.get("commands", ())))
    return f"Drawn from {files}:\n\n{commands}\n\n![Training curves of {lifter}]({CURVES})"
