"""Networks per scan backend: windows per second of the forward pass and of a training step, on a CPU or a CUDA GPU."""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from rich.table import Table
from torch import Tensor, nn

import lifter as lifters
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
from lifter.models.layers.inputs import Config
from lifter.runtime.cuda_graphs import GraphedModel
from lifter.runtime.devices import GPU_BACKEND
from lifter.runtime.precision import precision
from lifter.training.losses import pose_loss
from lifter.training.schedules import SCHEDULES
from lifter.training.train import DECAY

LOOPS = ("reference", "torch")  # one step at a time: timed once
DEFINITION = "reference"


class Shape(NamedTuple):
    """A batch of training windows; the loop, slow and hungry for memory, is left out where ``has_loop`` is False."""

    windows: int
    frames: int
    has_loop: bool = True


@dataclass(frozen=True)
class Plan:
    """What is measured on a kind of device.

    Attributes:
        lifters: Networks, where none are named.
        batches: Windows per forward pass.
        training: Shapes of the training steps: on a GPU those of the published recipe and of the schedule "full".
    """

    lifters: tuple[str, ...]
    batches: tuple[int, ...]
    training: tuple[Shape, ...]


PLANS = {
    "cpu": Plan(("posemamba-s",), (1,), (Shape(1, 81),)),  # the loop keeps 4 GB for the gradients of 81 frames
    "cuda": Plan(
        ("posemamba-s", "posemamba-b", "posemamba-l"),
        (1, 8, 64),
        (Shape(4, 243), Shape(12, 81), Shape(16, 243, False), Shape(48, 81, False)),
    ),
}


def lifter_tables(names: Sequence[str], plan: Plan, watch: Stopwatch, has_reference: bool = True) -> Iterator[Table]:
    """Yield the table of forward passes and that of training steps of the first network, in full float32 precision.

    Args:
        names: Lifters; empty for those of the plan.
        plan: What is measured.
        watch: Measures, on its device.
        has_reference: Whether to time the reference scan, which is slow.

    Raises:
        RuntimeError: Something other than memory failed; raised at the end, when all else was measured.
    """
    names = names or plan.lifters
    is_cuda = watch.device.type == "cuda"
    with torch.cuda.device(watch.device) if is_cuda else contextlib.nullcontext(), precision("fp32", watch.device):
        yield forward_table(names, plan.batches, watch, has_reference)
        yield training_table(names[0], plan.training, watch)
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
    return ("eager", "graph") if device.type == "cuda" and backend == GPU_BACKEND else ("eager",)


def runner(model: nn.Module, mode: str, example: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the inference pass of ``model`` for inputs as ``example`` (B, T, 17, C) or fewer rows of it."""
    if mode == "graph":
        return GraphedModel(model, tuple(example.shape[1:]), example.device, len(example))
    return torch.inference_mode()(model)


def training_table(name: str, shapes: Sequence[Shape], watch: Stopwatch) -> Table:
    """Return the training throughput of lifter ``name`` for every shape and backend."""
    columns = ("scan", "frames", "windows", "ms per step", "windows/s")
    table = new_table(f"{name}: training step (forward, loss, backward); {machine(watch.device)}", columns)
    for shape in (fitted(name, shape) for shape in shapes):
        for backend in [each for each in backends(watch.device) if each != DEFINITION]:  # which trains nothing
            seconds: float | str = "left out"
            if shape.has_loop or backend not in LOOPS:
                seconds = watch.seconds(
                    f"{name}, {backend}, training step of {shape.windows} x {shape.frames} frames",
                    functools.partial(training_step, name, backend, shape, watch.device),
                    1 if backend in LOOPS else REPEATS,
                )
            table.add_row(
                scan.describe(backend), str(shape.frames), str(shape.windows), milliseconds(seconds),
                rate(shape.windows, seconds),
            )  # fmt: skip
    return table


def training_step(name: str, backend: str, shape: Shape, device: torch.device) -> Callable[[], object]:
    """Return a step of lifter ``name`` on random data: training mode, loss and frozen decays as in ``SCHEDULES``.

    With trained weights, where there are any: their states decay to numbers that are slow to work with.
    """
    model = lifters.create_model(name)
    if name in lifters.trained_lifters():
        trained = lifters.load_lifter(name, "cpu").model
        model = importlib.import_module(lifters.lifter_spec(name).module).build(trained.config)
        model.load_state_dict(trained.state_dict())
    model = model.train().to(device)
    scan.use_backend(model, backend)
    schedule = SCHEDULES["full"]
    for key, parameter in model.named_parameters():
        if DECAY.search(key) and not schedule.decays_learn:
            parameter.requires_grad_(False)
    parameters = [p for p in model.parameters() if p.requires_grad]
    config = cast("Config", model.config)
    keypoints = random_inputs(name, shape.windows, shape.frames, config.channels).to(device)
    joints = torch.randn(shape.windows, shape.frames, 17, 3, device=device)

    def work() -> tuple[Tensor, ...]:
        return torch.autograd.grad(pose_loss(model(keypoints), joints, schedule.loss), parameters)

    return work


def fitted(name: str, shape: Shape) -> Shape:
    """Return ``shape`` with windows as long as lifter ``name`` takes them, about as many frames in all."""
    with torch.device("meta"):
        config = cast("Config", lifters.create_model(name).config)
    if shape.frames == config.window or (shape.frames < config.window and not config.fixed_length):
        return shape
    return shape._replace(windows=max(1, shape.windows * shape.frames // config.window), frames=config.window)
