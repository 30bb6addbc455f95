"""Networks per scan backend: milliseconds and windows per second of the forward pass, on a CPU or a CUDA GPU."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from rich.table import Table
from torch import Tensor, nn

from app.bench.measure import (
    REPEATS,
    Stopwatch,
    backends,
    machine,
    milliseconds,
    random_inputs,
    random_model,
    rate,
    ratio,
)
from app.evaluation.tables import new_table
from lifter import scan
from lifter.complexity import macs_per_frame
from lifter.runtime.cuda_graphs import GraphedModel
from lifter.runtime.devices import GPU_BACKENDS
from lifter.runtime.precision import precision

LOOPS = ("reference", "torch")  # one step at a time: timed once
DEFINITION = "reference"


@dataclass(frozen=True)
class Plan:
    """What is measured on a kind of device.

    Attributes:
        lifters: Networks, where none are named.
        batches: Windows per forward pass.
    """

    lifters: tuple[str, ...]
    batches: tuple[int, ...]


PLANS = {
    "cpu": Plan(("posemamba-s",), (1,)),
    "cuda": Plan(("posemamba-s", "posemamba-b", "posemamba-l"), (1, 8, 64)),
}


def time_lifters(names: Sequence[str], plan: Plan, watch: Stopwatch, has_reference: bool = True) -> Iterator[Table]:
    """Yield the table of forward passes in full float32 precision.

    Args:
        names: Lifters; empty for those of the plan.
        plan: What is measured.
        watch: Measures, on its device.
        has_reference: Whether to time the reference scan, which is slow.

    Raises:
        RuntimeError: Something other than memory failed; raised at the end, when all else was measured.
    """
    is_cuda = watch.device.type == "cuda"
    with torch.cuda.device(watch.device) if is_cuda else contextlib.nullcontext(), precision("fp32", watch.device):
        yield forward_table(names or plan.lifters, plan.batches, watch, has_reference)
    if watch.failures:
        raise RuntimeError("not everything could be measured: " + "; ".join(watch.failures))


def forward_table(names: Sequence[str], batches: Sequence[int], watch: Stopwatch, has_reference: bool = True) -> Table:
    """Return the throughput of networks at full windows, with random weights and inputs.

    The reference scan is timed at the smallest batch only. The caption says what could not run, and why.
    """
    columns = ["lifter", "parameters", "M MACs per frame", "frames", "scan", "launch", "max difference"]
    columns += [f"{what}, batch {batch}" for batch in batches for what in ("ms", "windows/s")]
    table = new_table(f"forward pass; {machine(watch.device)}", [*columns, "x reference scan"])
    reasons = scan.usable_backends(watch.device)
    table.caption = "\n".join(f"{backend}: {reason}" for backend, reason in reasons.items() if reason)
    used = [name for name in backends(watch.device) if has_reference or name != DEFINITION]
    for name in names:
        model = random_model(name).to(watch.device)
        size = f"{sum(p.numel() for p in model.parameters()):,}", f"{macs_per_frame(name) / 1e6:.1f}"
        keypoints = random_inputs(name, max(batches)).to(watch.device)
        for cells in _time_backends(name, model, keypoints, used, batches, watch):
            table.add_row(name, *size, str(keypoints.shape[1]), *cells)
    return table


def _time_backends(
    name: str, model: nn.Module, keypoints: Tensor, used: Sequence[str], batches: Sequence[int], watch: Stopwatch
) -> Iterator[list[str]]:
    """Yield the cells of a network's rows from "scan" on."""
    truth: Tensor | None = None
    definition_s: float | str = "-"
    for backend in used:
        scan.use_backend(model, backend)
        for mode in modes(backend, watch.device):
            run = runner(model, mode, keypoints)
            seconds: dict[int, float | str] = {}
            for batch in [min(batches)] if backend == DEFINITION else batches:
                work = functools.partial(functools.partial, run, keypoints[:batch])
                what = f"{name}, {backend}, {mode}, batch {batch}"
                seconds[batch] = watch.seconds(what, work, 1 if backend in LOOPS else REPEATS)
            if backend == DEFINITION:
                definition_s = seconds[min(batches)]
            output = watch.attempt(f"{name}, {backend}, output", functools.partial(run, keypoints[: min(batches)]))
            difference = "-"
            if isinstance(output, Tensor):
                truth = output if truth is None else truth
                difference = f"{(output - truth).abs().max():.1e}"
            times = [(batch, seconds.get(batch, "-")) for batch in batches]
            cells = [cell for batch, s in times for cell in (milliseconds(s), rate(batch, s))]
            yield [scan.describe(backend), mode, difference, *cells, ratio(definition_s, seconds[min(batches)])]


def modes(backend: str, device: torch.device) -> tuple[str, ...]:
    """Return the ways to launch a network with this backend; a loop has too many kernels for a graph."""
    return ("eager", "graph") if device.type == "cuda" and backend in GPU_BACKENDS else ("eager",)


def runner(model: nn.Module, mode: str, example: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the inference pass of ``model`` for inputs as ``example`` (B, T, 17, C) or fewer rows of it."""
    if mode == "graph":
        return GraphedModel(model, tuple(example.shape[1:]), example.device, len(example))
    return torch.inference_mode()(model)
