"""``posemamba bench``: speed on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.flags import with_options
from app.cli.ui import require_gradio
from app.console import print_error, print_status, print_table
from app.options import Options
from lifter import LIFTERS, lifter_spec

commands = typer.Typer(help="Measure speed on this machine.", no_args_is_help=True)
Clip = Annotated[Path, typer.Argument(help="Video.")]
SAMPLE = Path("assets/walk_wave.mp4")


@commands.command("lifter")
def bench_lifter(
    lifters: Annotated[
        list[str] | None, typer.Argument(help="Lifters; default posemamba-s on a CPU, all PoseMambas on a GPU.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All lifters.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    threads: Annotated[int, typer.Option(help="Threads (CPU only).")] = 1,
    reference: Annotated[bool, typer.Option(help="Also time the reference scan (slow).")] = True,
) -> None:
    """Time the forward pass of networks per scan backend."""
    names = list(LIFTERS) if everything else lifters or []
    for name in names:
        lifter_spec(name)
    if device != "cpu":
        _require_cuda(device)
    import torch

    from app.bench.lifter import PLANS, time_lifters
    from app.bench.measure import Stopwatch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        where = torch.device(device)
        for table in time_lifters(names, PLANS[where.type], Stopwatch(where, print_status), reference):
            print_table(table)
    finally:
        torch.set_num_threads(before)


def _require_cuda(device: str) -> None:
    """Print why ``device`` is no usable CUDA device, if it is none, and exit with code 2."""
    from lifter.runtime.devices import why_not_cuda

    reason = why_not_cuda(device) if device.startswith("cuda") else "it is no CUDA device; choose cpu or cuda"
    if reason:
        print_error(f"device {device!r} was asked for, but {reason}")
        raise typer.Exit(2)


def bench_pipeline(
    options: Options,
    clip: Clip = SAMPLE,
    repeat: Annotated[int, typer.Option(help="Also run the clip repeated this often, for memory.")] = 10,
) -> None:
    """Time file to JSON and overlay by stage, and memory against a longer clip."""
    from app.bench.pipeline import time_pipeline

    print_table(time_pipeline(clip, repeat, options))


@commands.command("web")
def bench_web(
    clip: Clip = SAMPLE,
    people: Annotated[int, typer.Option(min=1, help="How many send it at the same time.")] = 20,
    uploads: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Folder of files to send one by one.")
    ] = None,
) -> None:
    """Time the web app (extra ui): start-up, the page while a job runs, many people at once."""
    require_gradio()
    from app.bench.web import time_web

    print_table(time_web(clip, people, uploads))


PIPELINE = ("quality", "detector", "detector_weights", "detection_interval", "lifter", "device")
commands.command("pipeline")(with_options(bench_pipeline, Options, PIPELINE))
