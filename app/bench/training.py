"""Windows per second of a training step, forward, loss and backward, per scan backend."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
from rich.table import Table
from torch import Tensor

import lifter as lifters
from app.bench.measure import REPEATS, Stopwatch, backends, machine, milliseconds, random_inputs, rate
from lifter import scan
from lifter.models.layers.inputs import Config
from lifter.training.losses import pose_loss
from lifter.training.schedules import SCHEDULES
from lifter.training.train import DECAY

LOOPS = ("torch",)  # one step at a time: timed once; "reference" defines the scan and trains nothing


class Shape(NamedTuple):
    """A batch of training windows; the loop, slow and hungry for memory, is left out where ``has_loop`` is False."""

    windows: int
    frames: int
    has_loop: bool = True


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


def table(name: str, shapes: Sequence[Shape], watch: Stopwatch) -> Table:
    """Return the training throughput of lifter ``name`` for every shape and backend."""
    drawn = Table(title=f"{name}: training step (forward, loss, backward); {machine(watch.device)}")
    for column in ("frames", "windows", "scan", "ms per step", "windows/s"):
        drawn.add_column(column, justify="right")
    for shape in (fitted(name, shape) for shape in shapes):
        for backend in [name for name in backends(watch.device) if name != "reference"]:
            is_loop = backend in LOOPS
            seconds: float | str = "left out"
            if shape.has_loop or not is_loop:
                seconds = watch.seconds(
                    f"{name}, {backend}, training step of {shape.windows} x {shape.frames} frames",
                    functools.partial(training_step, name, backend, shape, watch.device),
                    1 if is_loop else REPEATS,
                )
            drawn.add_row(
                str(shape.frames), str(shape.windows), scan.describe(backend), milliseconds(seconds),
                rate(shape.windows, seconds),
            )  # fmt: skip
    return drawn
