"""What ``posemamba models`` says about lifters: the networks, and the weights there are for them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from rich.table import Table

from checkpoints import Entry, downloads, shipped
from checkpoints.manifest import UNPUBLISHED
from lifter import LIFTERS, create_model
from lifter.skeletons import MOTION_FPS

INPUTS = {2: "x, y", 3: "x, y, score"}


def lifter_tables() -> Iterator[Table]:
    """Yield the table of networks and those of their weights."""
    yield networks()
    yield weights()
    yield published()


def networks() -> Table:
    """Return one row per registered lifter: what it is, what it reads and what it is good for."""
    table = Table(
        title="Lifters", caption=f"window: frames seen at once, at {MOTION_FPS:g} per second; reads: of every keypoint"
    )
    for column in ("name", "what", "parameters", "window", "reads", "good for", "design and code"):
        table.add_column(column)
    for name, spec in LIFTERS.items():
        window = f"{spec.window} ({spec.window / MOTION_FPS:.1f} s)"
        table.add_row(
            name, spec.about, f"{num_parameters(name):,}", window, INPUTS[spec.channels], spec.good_for, spec.origin
        )
    return table


def weights() -> Table:
    """Return one row per registered lifter: whether weights come with it, what they score, their license."""
    entries, published = shipped(), {e.lifter: name for name, e in downloads("lifter").items()}
    table = Table(
        title="Weights of lifters",
        caption="validation: held-out subjects of our mocap, detector-like 2D, P1 after one scale per window, P2 after "
        "Procrustes; jitter: acceleration over the truth's; as published: Human3.6M by the authors, stacked-hourglass "
        "2D, never measured here - other people, other joints, other 2D: the columns do not compare",
    )
    for column in ("name", "weights", "trained for", "validation mm (P1 / P2)", "jitter", "license",
                   "as published mm (P1 / P2)"):  # fmt: skip
        table.add_column(column)
    for name, spec in LIFTERS.items():
        entry = entries.get(name)
        table.add_row(
            name, "included" if entry else f"fetch {published[name]}" if name in published else "none published",
            f"{entry.details['training_minutes']:.0f} min" if entry else "-",
            validation(entry), jitter(entry), entry.license if entry else "-", spec.published or "-",
        )  # fmt: skip
    return table


def published() -> Table:
    """Return one row per file that authors of lifters publish."""
    table = Table(
        title="Published weights of lifters: posemamba fetch NAME, then --lifter NAME",
        caption="no hash is published: the first download is checked to be the network and its SHA-256 is demanded "
        f"from then on; MB: at least. The authors of {' and '.join(UNPUBLISHED.values())} publish no weights",
    )
    for column in ("name", "what", "MB", "as published mm (P1 / P2)", "license", "here"):
        table.add_column(column)
    for name, entry in downloads("lifter").items():
        is_whole = entry.lifter in LIFTERS
        table.add_row(
            name, entry.lifter if is_whole else "first stage of MDTF, fetched with it",
            f"{4e-6 * num_parameters(entry.lifter):.0f}" if is_whole else "-",
            (is_whole and LIFTERS[entry.lifter].published) or "-", entry.license, "yes" if entry.is_here else "no",
        )  # fmt: skip
    return table


def validation(entry: Entry | None) -> str:
    """Return the errors that a manifest entry names, "-" where there is none."""
    scores = entry.details.get("validation_mm", {}) if entry else {}
    return f"{scores['noisy_p1']} / {scores['noisy_p2']}" if {"noisy_p1", "noisy_p2"} <= scores.keys() else "-"


def jitter(entry: Entry | None) -> str:
    """Return the jitter over the truth's that a manifest entry names, "-" where there is none."""
    return str(entry.details.get("jitter_over_truth", "-")) if entry else "-"


def num_parameters(name: str) -> int:
    """Return how many numbers the weights of lifter ``name`` hold, running means of norms aside; takes no memory."""
    with torch.device("meta"):
        return sum(p.numel() for p in create_model(name).parameters())
