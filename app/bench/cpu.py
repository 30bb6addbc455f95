"""One window through the network on the CPU: seconds per scan backend against the plain loop."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import torch
from rich.table import Table
from torch import nn

from app.bench import training
from app.bench.measure import Stopwatch, machine, random_inputs, random_model
from app.bench.training import Shape
from lifter import scan

REPEATS = 5
TRAINING = Shape(1, 81)  # the plain loop keeps 4 GB for its gradients


def tables(names: list[str], threads: int, with_reference: bool, report: Callable[[str], None]) -> Iterator[Table]:
    """Yield the table of one window and that of a training step of the first lifter, both with ``threads`` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield time_lifters(names, with_reference)
        yield training.table(names[0], [TRAINING], Stopwatch(torch.device("cpu"), report))
    finally:
        torch.set_num_threads(before)


def time_lifters(names: list[str], with_reference: bool) -> Table:
    """Return seconds per forward pass of one window, per network and backend, and the ratio to the plain loop.

    Random weights, the same input for every backend; CPU seconds of the process, which are steadier than wall time on
    shared machines.
    """
    table = Table(title=f"one window, forward, batch 1; {machine()}")
    for column in ("lifter", "frames", "scan", "CPU s", "wall s", "frames/s", "x plain loop", "max difference"):
        table.add_column(column, justify="right")
    reasons = scan.usable_backends("cpu")
    order = [b for b in ("reference", "torch", "cpu") if reasons[b] is None and (with_reference or b != "reference")]
    for name in names:
        model = random_model(name)
        keypoints = random_inputs(name, 1)
        plain = truth = None
        for backend in order:
            seconds, wall, output = _time_forward(model, keypoints, backend)
            plain = seconds if backend == "reference" else plain
            truth = output if truth is None else truth
            table.add_row(
                name, str(keypoints.shape[1]), scan.describe(backend), f"{seconds:.3f}", f"{wall:.3f}",
                f"{keypoints.shape[1] / wall:.0f}",
                f"{plain / seconds:.1f}" if plain else "-",
                f"{(output - truth).abs().max():.1e}",
            )  # fmt: skip
    return table


def _time_forward(model: nn.Module, keypoints: torch.Tensor, backend: str) -> tuple[float, float, torch.Tensor]:
    """Return (CPU seconds, wall seconds, output) of a forward pass: medians of several, one pass of a slow backend."""
    scan.use_backend(model, backend)
    times = []
    with torch.inference_mode():
        if backend == "cpu":
            model(keypoints)  # warm up
        for _ in range(REPEATS if backend == "cpu" else 1):
            began, began_wall = time.process_time(), time.perf_counter()
            output = model(keypoints)
            times.append((time.process_time() - began, time.perf_counter() - began_wall))
    return statistics.median(cpu for cpu, _ in times), statistics.median(wall for _, wall in times), output
