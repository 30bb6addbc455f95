"""The command line ``posemamba``. Maps flags to ``Options``; imports torch and the like only inside commands."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from app import __version__
from app.batch.process_clip import USER_ERRORS
from app.console import print_error, print_result, print_status, print_table, show_progress
from app.options import BACKENDS, FORMATS, PEOPLE, UP_AXES, Options, ServerOptions
from checkpoints import downloads, find, suggest, verify
from checkpoints.manifest import with_first_stages
from detectors import AUTO, BEST_FIRST, DETECTORS, QUALITIES, meanings, resolve_detector
from lifter import LIFTERS, require_fit, trained_lifters

DEFAULTS, SERVER = Options(), ServerOptions()
Detectors = Enum("Detectors", {name: name for name in (AUTO, *DETECTORS)}, type=str)  # type: ignore[misc]
INTERRUPTED = 130  # what typer makes of Ctrl-C
DEFAULT_DETECTOR = Detectors(DEFAULTS.detector)
DetectorOption = Annotated[
    Detectors,
    typer.Option(help=f"2D pose estimator; auto is the first of {', '.join(BEST_FIRST)} that can run here."),
]
DetectorWeights = Annotated[
    list[str],
    typer.Option(help="Weights for the detector, whatever the quality: a name of 'posemamba fetch' or a file; repeat."),
]
Qualities = Enum("Qualities", {name: name for name in QUALITIES}, type=str)  # type: ignore[misc]
DEFAULT_QUALITY = Qualities(DEFAULTS.quality)
Quality = Annotated[
    Qualities,
    typer.Option(
        help="fast: the smallest networks that are here, no flip averaging; best: MediaPipe's heavy network after "
        "'posemamba fetch mediapipe-heavy'; balanced in between. For other detectors it is as best."
    ),
]
UpAxes = Enum("UpAxes", {axis: axis for axis in UP_AXES}, type=str)  # type: ignore[misc]
DEFAULT_UP = UpAxes(DEFAULTS.up)

cli = typer.Typer(
    name="posemamba",
    help="Any video of people to 3D human motion.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
bench = typer.Typer(help="Measure speed on this machine.", no_args_is_help=True)
cli.add_typer(bench, name="bench")

Lifter = Annotated[
    str, typer.Option(help=f"One of {', '.join(LIFTERS)}, a name of 'posemamba fetch', or a weights file.")
]
Device = Annotated[
    str,
    typer.Option(
        help="Where the lifter runs: auto, cpu, cuda, cuda:1, ...; auto is a CUDA GPU if the scan has a kernel for it, "
        "else the CPU. Apple's MPS is not used: no scan kernel exists for it."
    ),
]
Backend = Annotated[str, typer.Option(help=f"Scan backend: {', '.join(BACKENDS)}.")]


def main() -> None:
    """Run the command line; expected failures become one sentence and exit code 1."""
    try:
        cli()
    except USER_ERRORS as error:
        logging.getLogger(__name__).debug("failed", exc_info=True)
        print_error(str(error))
        sys.exit(1)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print_error("stopped; finished results are kept")
        raise


@cli.callback()
def configure(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show what is being decided, and tracebacks.")
    ] = False,
) -> None:
    """Any video of people to 3D human motion."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    for name in ("matplotlib", "PIL", "jax", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)


@cli.command()
def run(
    inputs: Annotated[list[Path], typer.Argument(help="Videos, or folders searched for videos.", metavar="INPUT...")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Results go to OUT/<clip name>/.")],
    quality: Quality = DEFAULT_QUALITY,
    detector: DetectorOption = DEFAULT_DETECTOR,
    detector_weights: DetectorWeights = list(DEFAULTS.detector_weights),  # noqa: B006 - typer copies it
    detection_interval: Annotated[
        int, typer.Option(help="Look for people in every so many frames and move their boxes between (yolo-hrnet).")
    ] = DEFAULTS.detection_interval,
    lifter: Lifter = DEFAULTS.lifter,
    device: Device = DEFAULTS.device,
    backend: Backend = DEFAULTS.backend,
    height: Annotated[float | None, typer.Option(help="Body height in meters, if known: scales the 3D.")] = (
        DEFAULTS.height_m
    ),
    fov: Annotated[float, typer.Option(help="Field of view along the picture's longer side, degrees.")] = (
        DEFAULTS.fov_degrees
    ),
    rigid_bones: Annotated[
        bool, typer.Option(help="Constant bone lengths in every file; bvh and glb have them anyway.")
    ] = DEFAULTS.has_rigid_bones,
    smooth: Annotated[
        float | None, typer.Option(help="Smooth the 3D: zero-phase Butterworth with this cut-off, Hz; 6 is usual.")
    ] = DEFAULTS.smooth_hz,
    max_gap: Annotated[float, typer.Option(help="Longest gap that is interpolated, seconds.")] = DEFAULTS.max_gap_s,
    min_track: Annotated[
        float, typer.Option("--min-track-seconds", help="Drop people seen for less than this, seconds.")
    ] = DEFAULTS.min_track_s,
    people: Annotated[
        str, typer.Option(help=f"Whom to lift: {', '.join(PEOPLE)}, or ids as in an earlier result: 0,2.")
    ] = DEFAULTS.people,
    formats: Annotated[str, typer.Option(help=f"Files to write, of {', '.join(FORMATS)}.")] = ",".join(
        DEFAULTS.formats
    ),
    up: Annotated[UpAxes, typer.Option(help="Axis that points up in csv, trc and bvh; glb is y up.")] = DEFAULT_UP,
    upright: Annotated[
        bool, typer.Option(help="Turn csv, trc, bvh, glb and the 3D panel by the estimated tilt of the camera.")
    ] = DEFAULTS.is_upright,
    overlay: Annotated[bool, typer.Option(help="Write overlay.mp4.")] = DEFAULTS.has_overlay,
    pattern: Annotated[
        str | None, typer.Option(help="In folders, take files that match this, such as 'cam1_*' or 'day2/*.mov'.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Clips side by side, each in a process (extra dist).")] = 1,
    scheduler: Annotated[
        str | None, typer.Option(help="Use the workers of this dask scheduler, such as tcp://host:8786 (extra dist).")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Turn videos into 3D keypoints (pose.json, pose.npz and more), viewer.html and a skeleton overlay (overlay.mp4).

    What is done is left alone: run the same command again to go on after an interruption, or with more videos.
    """
    options = usable_options(
        quality=quality.value, detector=detector.value, detector_weights=tuple(detector_weights),
        detection_interval=detection_interval, lifter=lifter, device=device, backend=backend, height_m=height,
        fov_degrees=fov, has_rigid_bones=rigid_bones, smooth_hz=smooth, max_gap_s=max_gap, min_track_s=min_track,
        people=people, formats=tuple(name.strip() for name in formats.split(",")), up=up.value, is_upright=upright,
        has_overlay=overlay,
    )  # fmt: skip
    if scheduler and jobs > 1:
        raise typer.BadParameter("--jobs starts processes here and --scheduler uses others; give one of them")
    from app.batch.find_videos import discover
    from app.batch.run_batch import BatchRequest, print_plan, run_batch, why_not_dask

    if (scheduler or jobs > 1) and (reason := why_not_dask()):
        raise typer.BadParameter(reason)
    found = discover(inputs, out, pattern)
    for problem in found.problems:
        print_error(problem)
    failed = len(found.problems)
    if found.clips:
        if scheduler is None:  # its machines may have other weights than this one
            from app.pipeline import words_of

            print_status(words_of(options))
        request = BatchRequest(found.clips, out, jobs, scheduler)
        failed += print_plan(request, options) if dry_run else run_batch(request, options)
    raise typer.Exit(1 if failed else 0)


def usable_options(**settings: Any) -> Options:
    """Return Options; a value out of range is wrong usage, exit code 2."""
    try:
        return Options(**settings)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def require_gradio() -> None:
    """Say what to install where the web app cannot run."""
    if find_spec("gradio") is None:
        raise typer.BadParameter("the web app needs the package gradio: in the checkout, pip install -e '.[ui]'")


@cli.command()
def ui(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0: reachable by others.", envvar="GRADIO_SERVER_NAME")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(help="Default: the first free one from 7860.", envvar="GRADIO_SERVER_PORT")
    ] = None,
    auth: Annotated[str | None, typer.Option(help="NAME:PASSWORD that visitors need.", envvar="POSEMAMBA_AUTH")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that analyze; default one per GPU, or one for the CPU.")
    ] = SERVER.num_workers,
    keep_minutes: Annotated[float, typer.Option(help="Results are deleted after this time.")] = SERVER.keep_s / 60,
    max_minutes: Annotated[float, typer.Option(help="Longest video that is taken.")] = (
        SERVER.limits.max_duration_s / 60
    ),
    max_megabytes: Annotated[int, typer.Option(help="Largest file that is taken.")] = SERVER.limits.max_bytes // 10**6,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = False,
    device: Device = DEFAULTS.device,
) -> None:
    """Open the web app: upload a video, watch it become 3D, take the numbers home (extra ui)."""
    require_gradio()
    limits = dataclasses.replace(SERVER.limits, max_duration_s=60 * max_minutes, max_bytes=max_megabytes * 10**6)
    settings = dataclasses.replace(SERVER, limits=limits, device=device, num_workers=workers, keep_s=60 * keep_minutes)
    from app.web.server_process import serve

    serve(settings, host, port, auth, browser)


@cli.command()
def doctor() -> None:
    """Show devices, scan backends with reasons, detectors and weights found."""
    import torch

    from lifter import scan
    from lifter.runtime.devices import why_auto_is_cpu, why_not_cuda

    print_result(f"posemamba-wild {__version__}, Python {sys.version.split()[0]}, torch {torch.__version__}")
    print_result(f"cpu: {os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads")
    devices = ["cpu"]
    if reason := why_not_cuda():
        print_result(f"cuda: {reason}")
    else:
        devices.append("cuda")
        print_result(f"cuda: {torch.cuda.get_device_name()}")
    reason = why_auto_is_cpu()
    print_result(f"device auto: {f'cpu ({reason})' if reason else 'cuda'}")
    for device in devices:
        for name, reason in scan.usable_backends(device).items():
            print_result(f"scan backend {name} on {device}: {reason or 'usable, ' + scan.describe(name)}")
        print_result(f"scan backend auto on {device}: {scan.describe(scan.resolve_backend('auto', device))}")
    for name, spec in DETECTORS.items():
        print_result(f"detector {name}: {spec.state()}")
    problems = say_downloads()
    trained = trained_lifters()
    for name in trained:
        try:
            print_result(f"weights {name}: {find(name, 'lifter')}, SHA-256 matches")
        except RuntimeError as error:
            problems += 1
            print_result(f"weights {name}: {error}")
    untrained = ", ".join(name for name in LIFTERS if name not in trained)
    print_result(
        f"no weights here for {untrained}: train some ('posemamba train') or pass a weights file instead of a name"
    )
    raise typer.Exit(1 if problems else 0)


def say_downloads() -> int:
    """Say what ``--detector auto`` means here and which downloads are here; return how many are damaged.

    Those of lifters are not hashed, which for all of them would take seconds: every use does that.
    """
    try:
        print_result(f"detector auto: {resolve_detector(AUTO)}")
    except RuntimeError as error:
        print_result(f"detector auto: {error}")
    for quality, about in meanings().items():
        print_result(f"quality {quality}: {about}")
    damaged = 0
    for entry in downloads("detector").values():
        try:
            print_result(f"weights {entry.name}: {verify(entry)}, {entry.hash_text} matches; {entry.license}")
        except FileNotFoundError:
            print_result(
                f"weights {entry.name}: not here: posemamba fetch {entry.name} ({entry.megabytes} MB, {entry.license})"
            )
        except RuntimeError as error:
            damaged += 1
            print_result(f"weights {entry.name}: {error}")
    for published in downloads("lifter").values():
        missing = f"not here: posemamba fetch {published.name}"
        where = f"{published.path}, SHA-256 on record, checked at every use" if published.is_here else missing
        print_result(f"weights {published.name}: {where}; {published.license}")
    return damaged


@cli.command()
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


@cli.command()
def models() -> None:
    """List lifters, detectors and weights to fetch with size and license."""
    from rich.console import Console
    from rich.table import Table

    from app.cli.models import lifter_tables

    console = Console(width=None if sys.stdout.isatty() else 140)
    for table in lifter_tables():
        console.print(table)
    table = Table(title="Detectors")
    for column in ("name", "what", "license", "usable"):
        table.add_column(column)
    for name, detector in DETECTORS.items():
        table.add_row(name, detector.description, detector.license, detector.state())
    console.print(table)
    table = Table(title="Weights of detectors: posemamba fetch NAME")
    for column in ("name", "what", "MB", "license", "here"):
        table.add_column(column)
    for download in downloads("detector").values():
        is_here = "yes" if download.path.is_file() else "no"
        table.add_row(download.name, download.about, str(download.megabytes), download.license, is_here)
    console.print(table)


@cli.command()
def train(
    motion: Annotated[Path, typer.Argument(help="Folder with mocap: .npz, .bvh, .amc with .asf.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run; continued if it exists.")],
    minutes: Annotated[float | None, typer.Option(help="Training time to spend in all, resumed runs included.")] = None,
    cooldown: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES", help="Branch off the run in OUT, into a folder in it, and bring the rates to zero."
        ),
    ] = None,
    lifter: Annotated[str, typer.Option(help=f"Network: {', '.join(LIFTERS)}.")] = DEFAULTS.lifter,
    extras: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            help="A part of the network that is off by default: reads_scores (PoseMamba: of keypoints, too), reference "
            "(MDTF: the mistakes of the published code), use_bodyscale (HGMamba: edges of the whole body); repeat.",
            metavar="NAME",
        ),
    ] = None,
    schedule: Annotated[
        str, typer.Option(help="laptop, full (a GPU), long (days; ended by --cooldown) or published (PoseMamba's).")
    ] = "laptop",
    rate_scale: Annotated[
        float, typer.Option(help="Factor of the schedule's learning rates; below 1 to go on from good weights.")
    ] = 1.0,
    fps: Annotated[float, typer.Option(help="Frames per second that the network takes: 50 or 25.")] = 50.0,
    start: Annotated[Path | None, typer.Option(help="Begin with the weights in this file.")] = None,
    normalization: Annotated[str, typer.Option(help="2D input: person or picture.")] = "person",
    device: Device = DEFAULTS.device,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
) -> None:
    """Train a lifter on mocap; run again to go on from where it was stopped or killed, at most 20 seconds before.

    Every ten minutes it writes weights.safetensors, curve.csv and curve.png; at the end manifest.toml, the entry for
    checkpoints/manifest.toml.
    """
    from app.cli.train_run import TrainingOptions, train_lifter

    options = TrainingOptions(
        motion,
        out,
        minutes,
        cooldown,
        lifter,
        tuple(extras or ()),
        schedule,
        rate_scale,
        fps,
        normalization,
        start,
        device,
        seed,
    )
    train_lifter(options, report=print_result)


@cli.command()
def ablate(
    motion: Annotated[Path, typer.Argument(help="Folder with mocap (npz, bvh, amc).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="CSV file; rows of the same name are replaced.")],
    names: Annotated[list[str] | None, typer.Option("--only", help="Name of a run; default all.")] = None,
    minutes: Annotated[float, typer.Option(help="Training time of each run, in processor time on a CPU.")] = 4.0,
    start: Annotated[Path | None, typer.Option(help="Begin with the PoseMamba weights in this file.")] = None,
    device: Device = DEFAULTS.device,
) -> None:
    """Train short runs that differ in one part of the recipe each, and score them on held-out motion.

    The runs stay in a folder named like the CSV file and are gone on with when called again.
    """
    from app.cli.train_run import ablate_recipe

    ablate_recipe(motion, out, names, minutes, start, device, report=print_result)


@cli.command()
def evaluate(
    clips: Annotated[
        list[Path] | None,
        typer.Argument(help="Videos with ground truth <stem>.gt.npz beside them.", metavar="[CLIP]..."),
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="Ground truth .gt.npz of the only clip, if elsewhere.")] = None,
    motion: Annotated[Path | None, typer.Option(help="Folder with mocap: scores its held-out subjects.")] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            help="With --motion: another lifter, name or weights file: one short table of all; repeat.",
            metavar="LIFTER",
        ),
    ] = None,
    h36m: Annotated[
        Path | None, typer.Option(help="Human3.6M: h36m_sh_conf_cam_source_final.pkl or its folder.")
    ] = None,
    mpi_inf_3dhp: Annotated[Path | None, typer.Option(help="MPI-INF-3DHP: data_test_3dhp.npz.")] = None,
    published_scale: Annotated[
        bool,
        typer.Option("--published-scale", help="MPI-INF-3DHP: TS5 and TS6 6 % too small, as in published numbers."),
    ] = False,
    detector_errors: Annotated[
        bool, typer.Option("--detector-errors", help="Also measure the 2D detector on the clips.")
    ] = False,
    placement: Annotated[
        bool, typer.Option("--placement", help="Also score trajectories, tilt and feet on the clips.")
    ] = False,
    stills: Annotated[
        Path | None, typer.Option(help="COCO keypoints file of pictures: measure the 2D detector on them.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Also write a page of results, such as docs/results.md.")] = None,
    quality: Quality = DEFAULT_QUALITY,
    detector: DetectorOption = DEFAULT_DETECTOR,
    detector_weights: DetectorWeights = list(DEFAULTS.detector_weights),  # noqa: B006 - typer copies it
    lifter: Lifter = DEFAULTS.lifter,
    device: Device = DEFAULTS.device,
    backend: Backend = DEFAULTS.backend,
) -> None:
    """Score a lifter on clips with truth beside MediaPipe's own 3D, on held-out mocap, or on a benchmark you have."""
    if truth is not None and len(clips or ()) != 1:
        raise typer.BadParameter("--truth belongs to exactly one clip; several clips have theirs beside them")
    if not clips and motion is None and h36m is None and mpi_inf_3dhp is None and stills is None:
        raise typer.BadParameter("nothing to score; give clips, --motion, --stills, --h36m or --mpi-inf-3dhp")
    if compare and motion is None:
        raise typer.BadParameter("--compare is for held-out mocap; give --motion DIR")
    if (detector_errors or placement) and not clips:
        raise typer.BadParameter("--detector-errors and --placement are measured on clips; give some, or use --stills")
    options = usable_options(
        quality=quality.value, detector=detector.value, detector_weights=tuple(detector_weights), lifter=lifter,
        device=device, backend=backend,
    )  # fmt: skip
    from app.evaluation.clip_accuracy import EvaluationRequest, evaluations
    from app.pipeline import words_of

    if clips or stills is not None:  # titles and the page name what was measured
        options = dataclasses.replace(options, detector=resolve_detector(options.detector))
        print_status(words_of(options))

    done = []
    request = EvaluationRequest(
        tuple(clips or ()), truth, motion, tuple(compare or ()), h36m, mpi_inf_3dhp, published_scale,
        has_detector_errors=detector_errors, stills=stills, has_placement=placement,
    )  # fmt: skip
    for evaluation in evaluations(request, options, show_progress):
        for table in evaluation.tables:
            print_table(table)
        done.append(evaluation)
    if report is not None:
        from app.evaluation.report import write_report

        print_result(f"wrote {write_report(report, done, options)}")


@bench.command("lifter")
def bench_lifter(
    lifters: Annotated[
        list[str] | None, typer.Argument(help="Lifters; default posemamba-s on the CPU, all PoseMambas on a GPU.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="One table of all lifters: size, work, time per frame, gain by the scan.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    threads: Annotated[int, typer.Option(help="Threads (CPU only).")] = 1,
    reference: Annotated[
        bool,
        typer.Option(help="Also time the plain loop (slow; CPU only). With --all: else PyTorch's loop is the plain."),
    ] = True,
) -> None:
    """Time networks per scan backend, forward and a training step, in one run; or all of them in one table (--all)."""
    from lifter import lifter_spec

    for name in lifters or []:
        lifter_spec(name)
    tables: Iterable[Any]
    if everything:
        tables = [comparison_table(lifters or list(LIFTERS), device, threads, "reference" if reference else "torch")]
    elif device == "cpu":
        from app.bench import cpu

        tables = cpu.tables(lifters or [DEFAULTS.lifter], threads, reference, print_status)
    else:
        tables = gpu_tables(lifters, device)
    for table in tables:
        print_table(table)


def comparison_table(lifters: list[str], device: str, threads: int, plain: str) -> Any:
    """Return the table of ``app.bench.comparison``."""
    if device != "cpu":
        require_cuda(device)
    import torch

    from app.bench import comparison, measure

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return comparison.table(lifters, plain, measure.Stopwatch(torch.device(device), print_status))
    finally:
        torch.set_num_threads(before)


def require_cuda(device: str) -> None:
    """Say why ``device`` is no usable CUDA device, if it is none, and exit with code 2."""
    from lifter.runtime.devices import why_not_cuda

    reason = why_not_cuda(device) if device.startswith("cuda") else "it is no CUDA device; choose cpu or cuda"
    if reason:
        print_error(f"device {device!r} was asked for, but {reason}")
        raise typer.Exit(2)


def gpu_tables(lifters: list[str] | None, device: str) -> Iterator[Any]:
    """Return the tables of ``app.bench.gpu``; without such a GPU say so and exit with code 2."""
    require_cuda(device)
    import torch

    from app.bench import exactness, gpu, measure

    plan = gpu.Plan(lifters=tuple(lifters)) if lifters else gpu.Plan()
    return gpu.tables(plan, exactness.sample_sequence(), measure.Stopwatch(torch.device(device), print_status))


@bench.command("pipeline")
def bench_pipeline(
    clip: Annotated[Path, typer.Argument(help="Video.")] = Path("assets/walk_wave.mp4"),
    repeat: Annotated[int, typer.Option(help="Also run the clip repeated this often, for memory.")] = 10,
    detector: DetectorOption = DEFAULT_DETECTOR,
    detector_weights: DetectorWeights = list(DEFAULTS.detector_weights),  # noqa: B006 - typer copies it
    detection_interval: Annotated[int, typer.Option(help="As for run.")] = DEFAULTS.detection_interval,
    quality: Quality = DEFAULT_QUALITY,
    lifter: Lifter = DEFAULTS.lifter,
    device: Device = DEFAULTS.device,
) -> None:
    """Time file to JSON and overlay, memory against a longer clip, and every stage against one frame at a time."""
    from app.bench.pipeline import time_pipeline
    from app.bench.stages import stage_table

    options = usable_options(
        quality=quality.value, detector=resolve_detector(detector.value), detector_weights=tuple(detector_weights),
        detection_interval=detection_interval, lifter=lifter, device=device,
    )  # fmt: skip
    print_table(time_pipeline(clip, repeat, options))
    print_table(stage_table(clip, options))


@bench.command("ui")
def bench_ui(
    clip: Annotated[Path, typer.Argument(help="Video.")] = Path("assets/walk_wave.mp4"),
    people: Annotated[int, typer.Option(min=1, help="Who send it at the same time.")] = 20,
    uploads: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Folder of files to send one by one.")
    ] = None,
) -> None:
    """Time the web app (extra ui): start-up, the page while a job runs, many people at once."""
    require_gradio()
    from app.bench.web import time_ui

    print_table(time_ui(clip, people, uploads))


@bench.command("batch")
def bench_batch(
    clip: Annotated[Path, typer.Argument(help="Video.")] = Path("assets/walk_wave.mp4"),
    repeat: Annotated[int, typer.Option(min=1, help="Copies of it that are analyzed.")] = 6,
    detector: DetectorOption = DEFAULT_DETECTOR,
    lifter: Lifter = DEFAULTS.lifter,
    device: Device = DEFAULTS.device,
) -> None:
    """Time a batch with one worker process and with two (extra dist): clips per minute."""
    from app.batch.run_batch import why_not_dask

    if reason := why_not_dask():
        raise typer.BadParameter(reason)
    from app.bench.batch import time_batch

    print_table(time_batch(clip, repeat, usable_options(detector=detector.value, lifter=lifter, device=device)))
