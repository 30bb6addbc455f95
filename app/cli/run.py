"""``posemamba run``: videos to 3D motion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.flags import ADVANCED
from app.console import print_error, print_status
from app.options import Options


def run(
    inputs: Annotated[list[Path], typer.Argument(help="Videos, or folders searched for videos.", metavar="INPUT...")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Results go to OUT/<clip name>/.")],
    options: Options,
    jobs: Annotated[int, typer.Option(min=1, help="Clips side by side, each in a process (extra dist).")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be done.")] = False,
    glob: Annotated[
        str | None,
        typer.Option(
            help="In folders, take files that match this, such as 'cam1_*' or 'day2/*.mov'.", rich_help_panel=ADVANCED
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Use the workers of this dask scheduler, such as tcp://host:8786 (extra dist).",
            rich_help_panel=ADVANCED,
        ),
    ] = None,
) -> None:
    """Turn videos into 3D keypoints (pose.json, pose.npz and more), viewer.html and a skeleton overlay (overlay.mp4).

    What is done is left alone: run the same command again to go on after an interruption, or with more videos.
    """
    if scheduler and jobs > 1:
        raise typer.BadParameter("--jobs starts processes here and --scheduler uses others; give one of them")
    from app.batch.find_videos import discover
    from app.batch.run_batch import BatchRequest, print_plan, run_batch, why_not_dask

    if (scheduler or jobs > 1) and (reason := why_not_dask()):
        raise typer.BadParameter(reason)
    found = discover(inputs, out, glob)
    for problem in found.problems:
        print_error(problem)
    failed = len(found.problems)
    if found.clips:
        if scheduler is None:  # its machines may have other weights than this one
            from app.pipeline import describe_models

            print_status(describe_models(options))
        request = BatchRequest(found.clips, out, jobs, scheduler)
        failed += print_plan(request, options) if dry_run else run_batch(request, options)
    raise typer.Exit(1 if failed else 0)
