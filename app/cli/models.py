"""``posemamba models`` and ``posemamba fetch``: lifters and detectors, and the weights there are for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.batch.process_clip import USER_ERRORS
from app.console import print_error, print_result, print_table, show_progress
from checkpoints import downloads, shipped, suggest
from checkpoints.manifest import UNPUBLISHED, with_first_stages
from detectors import DETECTORS
from lifter import LIFTERS, create_model, require_fit

if TYPE_CHECKING:
    from rich.table import Table

INPUTS = {2: "x, y", 3: "x, y, score"}


def models() -> None:
    """List lifters, detectors and weights to fetch with size and license."""
    for make in (lifter_table, lifter_weights_table, published_table, detector_table, detector_weights_table):
        print_table(make())


def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(help="Weights, as 'posemamba models' lists them.", metavar="[NAME]...")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
) -> None:
    """Download published weights into checkpoints/downloaded, verified; goes on where it stopped."""
    from checkpoints.download import fetch as download

    known = downloads()
    wanted = list(known) if everything else names or []
    if not wanted or (everything and names):
        raise typer.BadParameter(f"give --all or one or more of {', '.join(known)}")
    if unknown := [name for name in wanted if name not in known]:
        hints = dict.fromkeys(hint for name in unknown if (hint := suggest(name, known)))
        text = "; ".join((f"unknown weights {', '.join(unknown)}", *hints, f"choose from {', '.join(known)}"))
        raise typer.BadParameter(text)
    failed = 0
    for name in with_first_stages(wanted):
        try:
            print_result(f"{name}: {download(known[name], show_progress, require_fit)} ({known[name].license})")
        except USER_ERRORS as error:
            failed += 1
            print_error(str(error))
    raise typer.Exit(1 if failed else 0)


def lifter_table() -> Table:
    """Return one row per registered lifter: what it is, what it reads and what it is good for."""
    from lifter.skeletons import MOTION_FPS

    rows = [
        (name, spec.about, f"{num_parameters(name):,}", f"{spec.window} ({spec.window / MOTION_FPS:.1f} s)",
         INPUTS[spec.channels], spec.good_for, spec.origin)
        for name, spec in LIFTERS.items()
    ]  # fmt: skip
    caption = f"window: frames seen at once, at {MOTION_FPS:g} per second; reads: of every keypoint"
    columns = ("name", "what", "parameters", "window", "reads", "good for", "design and code")
    return _table("Lifters", columns, rows, caption)


def lifter_weights_table() -> Table:
    """Return one row per registered lifter: whether weights come with it, what they score, their license."""
    rows, fetched = [], {entry.lifter: name for name, entry in downloads("lifter").items()}
    for name, spec in LIFTERS.items():
        entry = shipped().get(name)
        source = f"fetch {fetched[name]}" if name in fetched else "none published"
        minutes = f"{entry.details['training_minutes']:.0f} min" if entry else "-"
        rows.append((name, "included" if entry else source, minutes, *_scores(entry.details if entry else {}),
                     entry.license if entry else "-", spec.published or "-"))  # fmt: skip
    caption = (
        "validation: held-out subjects of our mocap, simulated detections, MPJPE (scale-aligned) / PA-MPJPE; "
        "acceleration ratio: over that of the ground truth; as published: Human3.6M by the authors, stacked-hourglass "
        "2D, never measured here - other people, other joints, other 2D: the columns do not compare"
    )
    columns = ("name", "weights", "trained for", "validation mm", "acceleration ratio", "license", "as published mm")
    return _table("Weights of lifters", columns, rows, caption)


def published_table() -> Table:
    """Return one row per file that authors of lifters publish."""
    rows = []
    for name, entry in downloads("lifter").items():
        is_whole = entry.lifter in LIFTERS
        about = entry.lifter if is_whole else "first stage of MDTF, fetched with it"
        megabytes = f"{4e-6 * num_parameters(entry.lifter):.0f}" if is_whole else "-"
        scores = (is_whole and LIFTERS[entry.lifter].published) or "-"
        rows.append((name, about, megabytes, scores, entry.license, "yes" if entry.is_here else "no"))
    title = "Published weights of lifters: posemamba fetch NAME, then --lifter NAME"
    caption = (
        "no hash is published: the first download is checked to be the network and its SHA-256 is demanded from then "
        f"on; MB: at least. The authors of {' and '.join(UNPUBLISHED.values())} publish no weights"
    )
    return _table(title, ("name", "what", "MB", "as published mm", "license", "here"), rows, caption)


def detector_table() -> Table:
    """Return one row per detector."""
    rows = [(name, spec.description, spec.license, spec.state()) for name, spec in DETECTORS.items()]
    return _table("Detectors", ("name", "what", "license", "usable"), rows)


def detector_weights_table() -> Table:
    """Return one row per file of weights for detectors."""
    rows = [
        (entry.name, entry.about, str(entry.megabytes), entry.license, "yes" if entry.path.is_file() else "no")
        for entry in downloads("detector").values()
    ]
    return _table("Weights of detectors: posemamba fetch NAME", ("name", "what", "MB", "license", "here"), rows)


def num_parameters(name: str) -> int:
    """Return how many numbers the weights of lifter ``name`` hold, running means of norms aside; takes no memory."""
    import torch

    with torch.device("meta"):
        return sum(p.numel() for p in create_model(name).parameters())


def _table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], caption: str | None = None) -> Table:
    from rich.table import Table

    table = Table(*columns, title=title, caption=caption)
    for row in rows:
        table.add_row(*row)
    return table


def _scores(entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield the errors and the acceleration ratio that a manifest entry names, "-" for what it lacks."""
    scores = entry.get("validation_mm", {})
    yield f"{scores['noisy_p1']} / {scores['noisy_p2']}" if {"noisy_p1", "noisy_p2"} <= scores.keys() else "-"
    yield str(entry.get("jitter_over_truth", "-"))
