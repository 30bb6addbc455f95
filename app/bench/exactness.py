"""What TF32 and bfloat16 matrix products would cost and gain: differences of the trained network on a real clip."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
from rich.table import Table
from torch import Tensor

from app.bench.measure import Stopwatch, milliseconds, rate
from app.bench.throughput import modes, runner
from lifter import load_lifter, scan
from lifter.lift import Sequence2D, windows_of
from lifter.load import Lifter
from lifter.normalize import DEFAULT_FOV_DEGREES
from lifter.runtime.precision import PRECISIONS, precision

CLIP = Path(__file__).resolve().parents[2] / "assets" / "walk_wave.gt.npz"


def sample_sequence(path: Path = CLIP) -> Sequence2D:
    """Return the true 2D keypoints of the first person of the sample clip."""
    with np.load(path) as truth:
        keypoints, fps, (width, height) = truth["coco_px"][:, 0] - 0.5, float(truth["fps"]), truth["size"]
    certain = np.ones(keypoints.shape[:2])
    return Sequence2D(keypoints, np.arange(len(keypoints)) / fps, int(width), int(height), certain)


def table(name_or_path: str, sequence: Sequence2D, batch: int, watch: Stopwatch) -> Table:
    """Return the difference of every precision to the definition of the scan in float32, and its speed.

    Differences over all joints of all windows of the clip, without mirrored copies, before windows are merged; in mm
    for weights trained in meters. Speed: a batch of repeated windows, launched in the fastest way.
    """
    lifter = load_lifter(name_or_path, str(watch.device))
    backend = scan.resolve_backend("auto", watch.device)
    scale, unit = (1e3, "mm") if lifter.unit == "m" else (1.0, "normalized units")
    drawn = Table(
        title=f"{lifter.name}, trained weights, {sequence_name(sequence)}: {unit} from the float32 definition"
    )
    for column in ("matrix products", "largest", "mean", f"ms, batch {batch}", f"windows/s, batch {batch}"):
        drawn.add_column(column, justify="right")
    windows = windows_of(lifter, sequence, DEFAULT_FOV_DEGREES)[1].to(watch.device)
    truth = answer(lifter, windows, "reference", "fp32")
    many = windows.repeat(-(-batch // len(windows)), 1, 1, 1)[:batch]
    for name in PRECISIONS:
        error = scale * (answer(lifter, windows, backend, name) - truth).norm(dim=-1)
        run = precision(name, watch.device)(runner(lifter.model, modes(backend, watch.device)[-1], many))
        seconds = watch.seconds(
            f"{lifter.name}, {name}, batch {batch}", functools.partial(functools.partial, run, many)
        )
        drawn.add_row(name, f"{error.max():.2g}", f"{error.mean():.2g}", milliseconds(seconds), rate(batch, seconds))
    drawn.caption = "inference uses fp32"
    return drawn


def answer(lifter: Lifter, windows: Tensor, backend: str, name: str) -> Tensor:
    """Return float32 joints (windows, T, 17, 3) with this scan backend and precision."""
    scan.use_backend(lifter.model, backend)
    with torch.inference_mode(), precision(name, lifter.device):
        return lifter.model(windows).float()


def sequence_name(sequence: Sequence2D) -> str:
    """Return the length of a sequence in words."""
    return f"{len(sequence.keypoints)} frames of {sequence.width}x{sequence.height}"
