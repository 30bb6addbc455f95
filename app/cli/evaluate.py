"""``posemamba evaluate``: tables of a lifter's or a detector's errors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.flags import with_options
from app.console import print_result, print_status, print_table, show_progress
from app.options import Options
from detectors import resolve_detector

if TYPE_CHECKING:
    from app.evaluation.tables import Evaluation

Report = Annotated[
    Path | None, typer.Option(help="Also write the tables into a page of results, such as docs/results.md.")
]
DETECTING, LIFTING = ("quality", "detector", "detector_weights"), ("lifter", "device", "backend")
commands = typer.Typer(help="Score a lifter or a detector against ground truth.", no_args_is_help=True)


def clips(
    clips: Annotated[
        list[Path], typer.Argument(help="Videos with ground truth <stem>.gt.npz beside them.", metavar="CLIP...")
    ],
    options: Options,
    ground_truth: Annotated[
        Path | None, typer.Option(help="Ground truth .gt.npz of the only clip, if elsewhere.")
    ] = None,
    detector_errors: Annotated[bool, typer.Option("--detector-errors", help="Also score the 2D detector.")] = False,
    trajectory: Annotated[
        bool, typer.Option("--trajectory", help="Also score trajectories, tilt and feet in the world.")
    ] = False,
    feet: Annotated[
        bool, typer.Option("--lock-feet", help="Also score feet, as estimated and locked (run --lock-feet).")
    ] = False,
    report: Report = None,
) -> None:
    """Score the app on clips with ground truth, beside MediaPipe's own 3D."""
    if ground_truth is not None and len(clips) != 1:
        raise typer.BadParameter("--ground-truth belongs to exactly one clip; several clips have theirs beside them")
    from app.evaluation.clip_accuracy import evaluate_clips
    from app.evaluation.ground_truth import ground_truth_beside
    from app.evaluation.keypoint_errors import error_tables, of_clip
    from app.evaluation.tables import Evaluation
    from app.evaluation.tracking_metrics import run_detector, tracking_table
    from app.evaluation.trajectory_errors import feet_table, trajectory_table

    options = _with_detector(options)
    truths = {clip: ground_truth or ground_truth_beside(clip) for clip in clips}

    def evaluations() -> Iterable[Evaluation]:
        yield Evaluation("Rendered clips, from pixels", evaluate_clips(truths, options))
        if trajectory:
            tables = [trajectory_table(clip, truth, options) for clip, truth in truths.items()]
            yield Evaluation("Rendered clips, trajectories", tables)
        if feet:
            tables = [feet_table(clip, truth, options) for clip, truth in truths.items()]
            yield Evaluation("Rendered clips, feet", tables)
        if detector_errors:
            runs = [run_detector(clip, truth, options) for clip, truth in truths.items()]
            errors = error_tables(f"{options.detector} on {len(runs)} clips", list(map(of_clip, runs)))
            title = f"Errors of the 2D detector {options.detector}, over time"
            yield Evaluation(title, [tracking_table(runs), *errors])

    _show(evaluations(), options, report)


def mocap(
    folder: Annotated[Path, typer.Argument(help="Folder with mocap: scores its held-out subjects.", metavar="DIR")],
    options: Options,
    compare: Annotated[
        list[str] | None,
        typer.Option(help="Another lifter, name or weights file: one short table of all; repeat.", metavar="LIFTER"),
    ] = None,
    report: Report = None,
) -> None:
    """Score a lifter on held-out motion capture, projected and detected in simulation."""
    from app.evaluation.mocap_accuracy import compare_lifters, evaluate_mocap
    from app.evaluation.tables import Evaluation

    if compare:
        tables = [compare_lifters(folder, [options.lifter, *compare], options, show_progress)]
    else:
        tables = evaluate_mocap(folder, options, show_progress)
    _show([Evaluation("Held-out motion capture", tables)], options, report)


def stills(
    coco_json: Annotated[Path, typer.Argument(help="COCO keypoints file of pictures.")],
    options: Options,
    report: Report = None,
) -> None:
    """Score the 2D detector on still pictures."""
    from app.evaluation.keypoint_errors import error_tables, of_stills
    from app.evaluation.tables import Evaluation
    from app.pipeline import detector_of

    options = _with_detector(options)
    sample = of_stills(coco_json, detector_of(options, "cpu"))
    tables = list(error_tables(f"{options.detector} on stills", [sample]))
    title = f"Errors of the 2D detector {options.detector}, on still pictures"
    _show([Evaluation(title, tables)], options, report)


def h36m(
    path: Annotated[Path, typer.Argument(help="h36m_sh_conf_cam_source_final.pkl or its folder.")],
    options: Options,
    report: Report = None,
) -> None:
    """Score a lifter on Human3.6M, by the published protocol."""
    from app.evaluation.public_benchmarks import evaluate_h36m
    from app.evaluation.tables import Evaluation

    table = evaluate_h36m(path, options, show_progress)
    _show([Evaluation("Human3.6M, detected 2D", [table])], options, report)


def mpi_inf_3dhp(
    file: Annotated[Path, typer.Argument(help="data_test_3dhp.npz.")],
    options: Options,
    published_scale: Annotated[
        bool, typer.Option("--published-scale", help="TS5 and TS6 6 % too small, as in published numbers.")
    ] = False,
    report: Report = None,
) -> None:
    """Score a lifter on MPI-INF-3DHP, by the published protocol."""
    from app.evaluation.public_benchmarks import evaluate_3dhp
    from app.evaluation.tables import Evaluation

    table = evaluate_3dhp(file, options, published_scale, show_progress)
    _show([Evaluation("MPI-INF-3DHP, ground-truth 2D", [table])], options, report)


commands.command()(with_options(clips, Options, (*DETECTING, *LIFTING)))
commands.command()(with_options(mocap, Options, LIFTING))
commands.command()(with_options(stills, Options, DETECTING))
commands.command()(with_options(h36m, Options, ("quality", *LIFTING)))
commands.command("mpi-inf-3dhp")(with_options(mpi_inf_3dhp, Options, ("quality", *LIFTING)))


def _with_detector(options: Options) -> Options:
    """Return options that name the detector, as titles do; show what they mean here."""
    from app.pipeline import describe_models

    options = replace(options, detector=resolve_detector(options.detector))
    print_status(describe_models(options))
    return options


def _show(evaluations: Iterable[Evaluation], options: Options, report: Path | None) -> None:
    """Print tables as they are finished, and write them into a page."""
    done = []
    for evaluation in evaluations:
        for table in evaluation.tables:
            print_table(table)
        done.append(evaluation)
    if report is not None:
        from app.evaluation.report import write_report

        print_result(f"wrote {write_report(report, done, options)}")
