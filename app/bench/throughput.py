"""Windows per second through a network: every scan backend, eager and as a CUDA graph, at several batch sizes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from rich.table import Table
from torch import Tensor, nn

import lifter as lifters
from app.bench.measure import REPEATS, Stopwatch, backends, milliseconds, random_inputs, random_model, rate, ratio
from lifter import scan
from lifter.runtime.cuda_graphs import GraphedModel
from lifter.runtime.devices import GPU_BACKENDS

TARGET_MS = {"posemamba-s": 5.0}  # one window, our kernel
TARGET_OVER_MAMBA = {"posemamba-l": 3.0}  # windows per second, our kernel over mamba_ssm


@dataclass(frozen=True, eq=False)
class Throughput:
    """Forward passes of one network.

    Attributes:
        lifter: Its registry name.
        seconds: Per (backend, mode, batch): seconds of one pass over the whole batch, or why there are none; mode is
            "eager" or "graph".
        differences: Per (backend, mode): largest difference of the output to that of the first one measured.
    """

    lifter: str
    seconds: dict[tuple[str, str, int], float | str]
    differences: dict[tuple[str, str], float]

    def best(self, batch: int) -> tuple[str, str] | None:
        """Return the fastest (backend, mode) at this batch size, None if nothing was measured."""
        times = {(b, m): s for (b, m, n), s in self.seconds.items() if n == batch and not isinstance(s, str)}
        return min(times, key=lambda way: times[way], default=None)


def ways(device: torch.device) -> list[tuple[str, str]]:
    """Return every (backend, mode) that runs on ``device``, the definition of the scan first."""
    return [(name, mode) for name in backends(device) for mode in modes(name, device)]


def modes(backend: str, device: torch.device) -> tuple[str, ...]:
    """Return the ways to launch a network with this backend; a loop has too many kernels for a graph."""
    return ("eager", "graph") if device.type == "cuda" and backend in GPU_BACKENDS else ("eager",)


def runner(model: nn.Module, mode: str, example: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the inference pass of ``model`` for inputs as ``example`` (B, T, 17, C) or fewer rows of it."""
    if mode == "graph":
        return GraphedModel(model, tuple(example.shape[1:]), example.device, len(example))
    return torch.inference_mode()(model)


def measure(name: str, batches: Sequence[int], watch: Stopwatch) -> Throughput:
    """Return the throughput of lifter ``name`` at full windows; the definition of the scan only at the least batch.

    Random weights and inputs, which lie on the device already.
    """
    model = random_model(name).to(watch.device)
    keypoints = random_inputs(name, max(batches)).to(watch.device)
    result, truth = Throughput(name, {}, {}), None
    for backend, mode in ways(watch.device):
        scan.use_backend(model, backend)
        run = runner(model, mode, keypoints)
        is_definition = backend == "reference"
        for batch in [min(batches)] if is_definition else batches:
            result.seconds[backend, mode, batch] = watch.seconds(
                f"{name}, {backend}, {mode}, batch {batch}",
                functools.partial(functools.partial, run, keypoints[:batch]),
                1 if is_definition else REPEATS,
            )
        output = watch.attempt(f"{name}, {backend}, {mode}, output", functools.partial(run, keypoints[: min(batches)]))
        if not isinstance(output, str):
            truth = output if truth is None else truth
            result.differences[backend, mode] = float((output - truth).abs().max())
    return result


def table(result: Throughput, batches: Sequence[int], reasons: dict[str, str | None], where: str) -> Table:
    """Return the throughput of one network as a table, with what could not be measured and why below it."""
    window = lifters.lifter_spec(result.lifter).window
    drawn = Table(title=f"{result.lifter}: windows of {window} frames per second, forward; {where}")
    for column in ("scan", "launch", "max difference", *(f"ms, batch {b}" for b in batches),
                   *(f"windows/s, batch {b}" for b in batches)):  # fmt: skip
        drawn.add_column(column, justify="right")
    for backend, mode in dict.fromkeys((b, m) for b, m, _ in result.seconds):
        times = [result.seconds.get((backend, mode, batch), "-") for batch in batches]
        difference = result.differences.get((backend, mode))
        drawn.add_row(
            scan.describe(backend), mode, "-" if difference is None else f"{difference:.1e}",
            *(milliseconds(s) for s in times), *(rate(b, s) for b, s in zip(batches, times, strict=True)),
        )  # fmt: skip
    absent = [f"{backend}: {reason}" for backend, reason in reasons.items() if reason]
    drawn.caption = "\n".join([*targets(result, batches), *absent])
    return drawn


def targets(result: Throughput, batches: Sequence[int]) -> list[str]:
    """Return lines that put the figures beside what we aim at; they judge nothing."""
    lines = []
    best = result.best(1)
    if result.lifter in TARGET_MS and best:
        backend, mode = best
        took = milliseconds(result.seconds[backend, mode, 1])
        lines.append(f"one window: {took} ms ({backend}, {mode}); aim: {TARGET_MS[result.lifter]:g} ms")
    for mode in ("eager", "graph"):
        ratios = [
            ratio(result.seconds.get(("mamba_ssm", mode, b), "-"), result.seconds.get(("triton", mode, b), "-"))
            for b in batches
        ]
        if set(ratios) != {"-"}:
            aim = TARGET_OVER_MAMBA.get(result.lifter)
            sizes = ", ".join(map(str, batches))
            lines.append(
                f"triton over mamba_ssm, windows/s, {mode}, batch {sizes}: {', '.join(ratios)}"
                + (f"; aim: {aim:g}" if aim else "")
            )
    return lines
