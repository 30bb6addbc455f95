"""Everything about the network on a CUDA GPU in one run, as tables in the order in which they are finished."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from rich.table import Table

from app.bench import exactness, floor, throughput, training
from app.bench.measure import Stopwatch, machine
from app.bench.training import Shape
from lifter import create_model, scan
from lifter.lift import Sequence2D
from lifter.models.posemamba import PoseMamba
from lifter.runtime.precision import precision


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        lifters: Networks whose forward pass is timed, random weights.
        batches: Windows per forward pass.
        trained: Name or file of the weights for the differences between precisions.
        training: Shapes of the training steps: those of the published recipe and of the schedule "full", with the same
            number of frames in both lengths.
        training_lifter: The network that is trained.
        copy_bytes: Size of the copy that gives the bandwidth; far beyond any cache.
    """

    lifters: tuple[str, ...] = ("posemamba-s", "posemamba-b", "posemamba-l")
    batches: tuple[int, ...] = (1, 8, 64)
    trained: str = "posemamba-s"
    training: tuple[Shape, ...] = (Shape(4, 243), Shape(12, 81), Shape(16, 243, False), Shape(48, 81, False))
    training_lifter: str = "posemamba-s"
    copy_bytes: int = 1 << 30


def tables(plan: Plan, sequence: Sequence2D, watch: Stopwatch) -> Iterator[Table]:
    """Yield the tables, each as soon as it is complete, in full float32 precision unless a row says otherwise.

    Args:
        plan: What to measure.
        sequence: Real keypoints, for the differences between precisions.
        watch: Measures, on its device.

    Raises:
        RuntimeError: Something other than memory failed; raised at the end, when all else was measured.
    """
    watch.report(machine(watch.device))
    is_cuda = watch.device.type == "cuda"
    with torch.cuda.device(watch.device) if is_cuda else contextlib.nullcontext(), precision("fp32", watch.device):
        for what, make in _sections(plan, sequence, watch):
            made = watch.attempt(what, make)
            if not isinstance(made, str):
                yield from made
    if watch.failures:
        raise RuntimeError("not everything could be measured: " + "; ".join(watch.failures))


def _sections(plan: Plan, sequence: Sequence2D, watch: Stopwatch) -> Iterator[tuple[str, Callable[[], list[Table]]]]:
    """Yield the parts of the run, each with a name; one may fail without the others."""
    bandwidth = floor.copy_bandwidth(watch, plan.copy_bytes)

    def forward(name: str) -> list[Table]:
        result = throughput.measure(name, plan.batches, watch)
        reasons = scan.usable_backends(watch.device)
        drawn = [throughput.table(result, plan.batches, reasons, machine(watch.device))]
        if isinstance(create_model(name), PoseMamba):  # of whose scans and traffic there is a model
            drawn.append(floor.table(result, plan.batches, bandwidth, watch))
        return drawn

    for name in plan.lifters:
        yield name, functools.partial(forward, name)
    yield "training", lambda: [training.table(plan.training_lifter, plan.training, watch)]
    yield "precision", lambda: [exactness.table(plan.trained, sequence, max(plan.batches), watch)]
