"""All lifters in one table: size, work per frame, time per frame, and what the scan kernels save."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from rich.table import Table
from torch import Tensor, nn

import lifter as lifters
from app.bench.measure import REPEATS, Stopwatch, machine, milliseconds, random_inputs, random_model, rate, ratio
from app.bench.throughput import modes, runner
from app.cli.models import jitter, num_parameters, validation
from checkpoints import shipped
from lifter import scan
from lifter.complexity import macs_per_frame

FRAMES_AT_ONCE = {"cpu": 243, "cuda": 64 * 243}  # as many windows as hold this many frames: the same work for all
PLAIN_FRAMES = 243  # for the plain scan, one pass


def table(names: Sequence[str], plain: str, watch: Stopwatch) -> Table:
    """Return one row per lifter, random weights and inputs.

    Args:
        names: Lifters.
        plain: Scan backend that is called plain: "reference", the definition, or "torch".
        watch: Measures, on its device, with as many threads as torch has.

    Raises:
        RuntimeError: Something other than memory failed; raised at the end, when all else was measured.
    """
    device = watch.device
    frames = FRAMES_AT_ONCE[device.type]
    drawn = Table(title=f"lifters, forward, {frames} frames at once; {machine(device)}")
    for column in ("lifter", "window", "parameters", "M MACs per frame", "ms per frame", "windows/s",
                   f"x plain scan ({plain})", "validation mm (P1 / P2)", "jitter"):  # fmt: skip
        drawn.add_column(column, justify="right")
    entries = shipped()
    for name in names:
        window = lifters.lifter_spec(name).window
        model = random_model(name).to(device)
        count = max(1, frames // window)
        seconds = watch.seconds(f"{name}, {count} windows", functools.partial(work, name, model, "auto", count, device))
        drawn.add_row(
            name, str(window), f"{num_parameters(name):,}", f"{macs_per_frame(name) / 1e6:.1f}",
            milliseconds(seconds if isinstance(seconds, str) else seconds / (count * window)), rate(count, seconds),
            gain(name, model, plain, seconds, watch), validation(entries.get(name)), jitter(entries.get(name)),
        )  # fmt: skip
    drawn.caption = (
        "MACs: matrix products, convolutions, attention and scans, by one counter (lifter/macs.py). x plain scan: time "
        f"of the whole network with it over that with ours, {PLAIN_FRAMES} frames at once; - without a scan. "
        "Validation and jitter: detector-like 2D, see posemamba models; - without weights"
    )
    if watch.failures:
        raise RuntimeError("not everything could be measured: " + "; ".join(watch.failures))
    return drawn


def gain(name: str, model: nn.Module, plain: str, seconds: float | str, watch: Stopwatch) -> str:
    """Return how many times as long the network takes with the plain scan, "-" if it has no scan.

    ``seconds`` is what it takes for as many frames as this device gets at once.
    """
    if not scan.has_scan(model):
        return "-"
    count = max(1, PLAIN_FRAMES // lifters.lifter_spec(name).window)
    backends = {plain: 1, "auto": REPEATS} if FRAMES_AT_ONCE[watch.device.type] != PLAIN_FRAMES else {plain: 1}
    times = [
        watch.seconds(
            f"{name}, {backend}, {count} windows",
            functools.partial(work, name, model, backend, count, watch.device),
            repeats,
        )
        for backend, repeats in backends.items()
    ]
    return ratio(times[0], (*times, seconds)[1])


def work(name: str, model: nn.Module, backend: str, count: int, device: torch.device) -> Callable[[], Tensor]:
    """Return a forward pass of ``count`` windows, launched in the way that the app launches it."""
    backend = scan.resolve_backend(backend, device)
    scan.use_backend(model, backend)
    inputs = random_inputs(name, count).to(device)
    return functools.partial(runner(model, modes(backend, device)[-1], inputs), inputs)
