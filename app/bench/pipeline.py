"""From file to JSON and overlay: seconds per stage, and peak memory against a longer clip."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.table import Table

from app.bench.measure import machine
from app.options import Options
from app.video.reader import VideoReader, probe
from app.video.writer import write_video


def time_pipeline(clip: Path, repeat: int, options: Options = Options()) -> Table:
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
            report = _run_apart(path, clip, Path(folder) / "out", options)
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
from app.options import Options
from app.pipeline import estimate
clip, warm_up, out = map(Path, sys.argv[1:4])
settings = json.loads(sys.argv[4])
options = Options(**{key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()})
export(estimate(warm_up, options), out)
result = estimate(clip, options)
export(result, out)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
video = result.video
print(json.dumps({"seconds": result.stage_seconds, "frames": video.num_frames,
                  "duration": video.num_frames / video.fps, "peak_mb": peak}))
"""


def _run_apart(clip: Path, warm_up: Path, out: Path, options: Options) -> dict:
    answer = subprocess.run(
        [sys.executable, "-c", RUN, str(clip), str(warm_up), str(out), json.dumps(dataclasses.asdict(options))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if answer.returncode:
        raise RuntimeError(f"the pipeline failed on {clip}: {answer.stderr.strip().splitlines()[-1]}")
    return json.loads(answer.stdout.splitlines()[-1])
