"""Clips per minute with one worker and with two, in one run."""

from __future__ import annotations

import dataclasses
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.table import Table

from app.batch.dask_workers import environments, start_local
from app.batch.output_folder import OutFolder
from app.batch.process_clip import ClipTask
from app.batch.worker_resources import THREADS
from app.bench.measure import machine, wall_clock
from app.options import Options
from app.video.reader import probe

COUNTS = (1, 2)
STAGES = ("2D", "3D", "overlay")


def time_batch(clip: Path, repeat: int, options: Options) -> Table:
    """Return how many clips per minute one worker process does and how many two do that share the same cores.

    Every worker is given a clip first, which pays for start-up (imports, models, first calls); then the time for
    ``repeat`` copies of the clip is taken, results written as in a batch.

    Raises:
        RuntimeError: A clip failed.
    """
    table = Table(title=f"{repeat} x {clip.name}, file to JSON and overlay; {machine()}")
    for column in ("workers", "threads each", "seconds", "clips/minute", "times one worker", *STAGES):
        table.add_column(f"{column}, s per clip" if column in STAGES else column, justify="right")
    rates = []
    with tempfile.TemporaryDirectory() as folder:
        clips = [Path(shutil.copy(clip, Path(folder) / f"{number}{clip.suffix}")) for number in range(repeat)]
        for count in COUNTS:
            seconds, records = _time(clips, count, Path(folder) / f"out{count}", options)
            rates.append(60 * repeat / seconds)
            stages = [statistics.mean(record["stage_seconds"].get(name, 0) for record in records) for name in STAGES]
            table.add_row(
                str(count), environments(count, options.device)[0][THREADS[0]], f"{seconds:.1f}", f"{rates[-1]:.2f}",
                f"{rates[-1] / rates[0]:.2f}", *(f"{each:.2f}" for each in stages),
            )  # fmt: skip
    written = sum(records[0]["files"].values()) / 1e6
    frames, decoding = records[0]["frames"], wall_clock(lambda: probe(clip))
    table.caption = (
        f"one worker that only decodes: {frames / decoding:.0f} frames/s; a clip of {frames} frames reads "
        f"{clip.stat().st_size / 1e6:.2f} MB and writes {written:.2f} MB"
    )
    return table


def _time(clips: list[Path], count: int, out: Path, options: Options) -> tuple[float, list[dict[str, Any]]]:
    """Return the seconds that ``count`` workers take for clips, and the records of these."""
    with OutFolder(out).locked() as lock, start_local(count, options) as workers:
        models = workers.models(options)
        jobs = [ClipTask(clip, clip.stem, out, lock.token, options, models) for clip in clips]
        list(workers.outcomes([dataclasses.replace(jobs[0], name=f"first of worker {n}") for n in range(count)]))
        began = time.perf_counter()
        records = [outcome.record for outcome in workers.outcomes(jobs)]
        seconds = time.perf_counter() - began
    if failed := [record["error"] for record in records if record["status"] != "done"]:
        raise RuntimeError(f"{len(failed)} of {len(records)} clips failed: {failed[0]}")
    return seconds, records
