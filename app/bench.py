"""``posemamba bench``: speed of the network and of the pipeline, as ratios within one run."""

from __future__ import annotations

import dataclasses
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.table import Table
from torch import nn

import lifter as lifters
from app.video import VideoReader, probe, write_video
from lifter import scan

REPEATS = 5


def machine() -> str:
    """Return the processor in a few words."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].partition(":")[2].strip() if lines else name
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def time_lifters(names: list[str], threads: int, with_reference: bool) -> Table:
    """Return seconds per forward pass of one window, per network and backend, and the ratio to the plain loop.

    Random weights with decays in general position, as trained ones have; the same input for every backend; CPU
    seconds of the process, which are steadier than wall time on shared machines.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    table = Table(title=f"one window of 243 frames, forward, batch 1; {machine()}")
    for column in ("lifter", "scan", "CPU s", "wall s", "frames/s", "x plain loop", "max difference"):
        table.add_column(column, justify="right")
    reasons = scan.usable_backends("cpu")
    order = [b for b in ("reference", "torch", "cpu") if reasons[b] is None and (with_reference or b != "reference")]
    try:
        for name in names:
            torch.manual_seed(0)
            model = lifters.create_model(name).eval()
            for key, parameter in model.named_parameters():
                if key.endswith("A_logs"):  # fresh ones are exact powers, for which the compiled scan has a shortcut
                    parameter.requires_grad_(False).add_(0.05 * torch.randn_like(parameter))
            keypoints = torch.rand(1, lifters.lifter_spec(name).window, 17, 2) * 2 - 1
            plain = truth = None
            for backend in order:
                seconds, wall, output = _time_forward(model, keypoints, backend)
                plain = seconds if backend == "reference" else plain
                truth = output if truth is None else truth
                table.add_row(
                    name, scan.describe(backend), f"{seconds:.3f}", f"{wall:.3f}", f"{keypoints.shape[1] / wall:.0f}",
                    f"{plain / seconds:.1f}" if plain else "-",
                    f"{(output - truth).abs().max():.1e}",
                )  # fmt: skip
    finally:
        torch.set_num_threads(before)
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


def time_pipeline(clip: Path, repeat: int) -> Table:
    """Return seconds per stage from file to JSON and overlay, real-time factor, and peak memory against a longer clip.

    Each length runs in a process of its own: a first pass over the clip pays for start-up (models, first calls), the
    second is timed. Peak memory is that of the whole process.
    """
    table = Table(title=f"{clip.name}, file to JSON and overlay; {machine()}")
    for column in ("clip", "frames", "video s", "stages", "total s", "x real time", "peak MB"):
        table.add_column(column, justify="right")
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for times in [1, repeat] if repeat > 1 else [1]:
            path = clip if times == 1 else repeated(clip, times, Path(folder) / f"{clip.stem}_{times}.mp4")
            report = _run_apart(path, clip, Path(folder) / "out")
            seconds = report["seconds"]
            total = sum(seconds.values())
            peaks.append(report["peak_mb"])
            table.add_row(
                f"{times} x", str(report["frames"]), f"{report['duration']:.1f}",
                ", ".join(f"{stage} {s:.2f}" for stage, s in seconds.items()), f"{total:.2f}",
                f"{report['duration'] / total:.2f}", f"{report['peak_mb']:.0f}",
            )  # fmt: skip
    if len(peaks) == 2:
        table.caption = f"peak memory of {repeat} x the clip over 1 x: {peaks[1] / peaks[0]:.3f}"
    return table


def repeated(clip: Path, times: int, path: Path) -> Path:
    """Write ``clip`` repeated ``times`` times to ``path`` and return it."""
    info = probe(clip)
    count = info.num_frames * times
    longer = dataclasses.replace(info, num_frames=count, timestamps_s=np.arange(count) / info.fps)
    write_video(path, (frame for _ in range(times) for frame in VideoReader(clip)), longer)
    return path


RUN = """
import json, resource, sys
from pathlib import Path
from app.export import export
from app.pipeline import estimate
clip, warm_up, out = map(Path, sys.argv[1:])
export(estimate(warm_up), out)
result = estimate(clip)
export(result, out)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
video = result.video
print(json.dumps({"seconds": result.stage_seconds, "frames": video.num_frames,
                  "duration": video.num_frames / video.fps, "peak_mb": peak}))
"""


def _run_apart(clip: Path, warm_up: Path, out: Path) -> dict:
    answer = subprocess.run(
        [sys.executable, "-c", RUN, str(clip), str(warm_up), str(out)], capture_output=True, text=True, check=False
    )
    if answer.returncode:
        raise RuntimeError(f"the pipeline failed on {clip}: {answer.stderr.strip().splitlines()[-1]}")
    return json.loads(answer.stdout.splitlines()[-1])
