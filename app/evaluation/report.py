"""A page of results in Markdown: every table beside the command that prints it, and on which machine it did."""

from __future__ import annotations

import csv
import datetime
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.table import Table

from app.bench.measure import machine
from app.evaluation.clip_accuracy import Evaluation
from app.evaluation.training_curves import draw_curves
from app.options import Options
from app.pipeline import cached_lifter
from checkpoints import FOLDER, atomic_write, shipped
from lifter import LIFTERS
from lifter.training.ablation import COLUMNS as ABLATION_COLUMNS
from lifter.training.train import git_revision

ABLATIONS = "ablations.csv"  # beside the page, written by ``posemamba ablate``
CURVES = "curves.png"
PUBLISHED = """## Published figures

As published by the authors, not measured here: Human3.6M (S9, S11), stacked-hourglass 2D, flip averaging, at the true
scale of every frame.

| lifter | window, frames | P1 / P2, mm |
| --- | ---: | ---: |
{rows}

Sources: model card of `nankingjings/PoseMamba-weights` on Hugging Face; tables of the HGMamba paper, also for
MotionAGFormer, and the abstract of its own; README of MDTF. SSR-STF is not listed: ours is a design after it.
Whoever has a license of the data and published weights measures them with `posemamba evaluate --h36m
h36m_sh_conf_cam_source_final.pkl --lifter PoseMamba_L.bin`. They do not compare with the tables above: other people,
other joints, other 2D, and there the scale is given."""


def write_report(path: Path, evaluations: Sequence[Evaluation], options: Options) -> Path:
    """Write the page to ``path``, the training curves beside it, and return ``path``.

    Each file appears whole or not at all. ``ablations.csv`` beside the page becomes a table.

    Raises:
        ValueError: ``ablations.csv`` has other columns than ``posemamba ablate`` writes, or a curve cannot be read.
        RuntimeError: There are curves to draw and matplotlib is not installed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sections = [_head(options), *(_section(evaluation) for evaluation in evaluations)]
    sections += [*_ablations(path.parent / ABLATIONS), *_curves(options.lifter, path.parent), _published()]
    with atomic_write(path) as part:
        part.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    return path


def _published() -> str:
    rows = [f"| {name} | {spec.window} | {spec.published} |" for name, spec in LIFTERS.items() if spec.published]
    return PUBLISHED.format(rows="\n".join(rows))


def _head(options: Options) -> str:
    lifter = cached_lifter(options.lifter, options.device, options.backend)
    weights = lifter.provenance["weights"]
    return "\n".join(
        [
            "# Results",
            "",
            "Written by this command; the numbers of each table are printed by the command above it.",
            "",
            _code(shlex.join(["posemamba", *sys.argv[1:]])),
            "",
            f"- date: {datetime.date.today().isoformat()}",
            f"- machine: {machine(lifter.device)}",
            f"- code: {git_revision()} (`+`: with changes that were not committed)",
            f"- lifter: {lifter.name}, 2D normalized by {lifter.normalization}, unit {lifter.unit}, "
            f"scan {lifter.provenance['scan_backend']} on {lifter.device}",
            f"- weights: `{weights['file']}`, SHA-256 `{weights['sha256']}`",
            f"- 2D from pixels: {options.detector}, quality {options.quality}",
        ]
    )


def _section(evaluation: Evaluation) -> str:
    tables = [markdown(table) for table in evaluation.tables]
    return "\n\n".join([f"## {evaluation.title}", _code(evaluation.command), *tables])


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


def _ablations(path: Path) -> list[str]:
    """Return the section on ablations, none without the file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != ABLATION_COLUMNS:
            raise ValueError(f"{path} has the columns {reader.fieldnames}, expected {', '.join(ABLATION_COLUMNS)}")
        rows = [[row[name] or "" for name in ABLATION_COLUMNS] for row in reader]
    table = Table(
        title="errors in mm on held-out subjects: 12 limbs, one scale (p1), Procrustes (p2); exact 2D (clean), "
        "detector-like 2D (noisy)",
        caption="frames seen: in training; window: frames of the windows that are scored, at 50 per second",
    )
    for name in ABLATION_COLUMNS:
        table.add_column(name.replace("_", " "), justify="left" if name in ("name", "start", "note") else "right")
    for row in rows:
        table.add_row(*row)
    intro = f"Short training runs that differ in one thing each, written to `{path.name}` by `posemamba ablate`."
    return ["\n\n".join(["## Ablations", intro, markdown(table)])]


def _curves(lifter: str, folder: Path) -> list[str]:
    """Return the section on training curves and draw them; none for weights that the manifest has no curves of."""
    included = shipped()
    entry = included[lifter].details if lifter in included else {}
    curves = [FOLDER / name for name in entry.get("curves", ())]
    if not curves:
        return []
    draw_curves(curves, folder / CURVES)
    commands = "\n".join(entry.get("commands", ()))
    files = ", ".join(f"`checkpoints/{file.name}`" for file in curves)
    intro = f"Training of `{lifter}`, drawn from {files}:"
    return ["\n\n".join(["## Training curves", intro, _code(commands), f"![Training curves of {lifter}]({CURVES})"])]
