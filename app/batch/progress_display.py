"""What a batch prints: a paragraph per clip; on a terminal bars with the time left, else plain lines."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from app.batch.find_videos import size_of
from app.console import bars, one_line, print_error, print_result, print_status, watched
from app.quality.person_quality import PersonQuality, summary_lines

log = logging.getLogger(__name__)


class Display:
    """Prints progress, and the result of every clip.

    The time left is estimated from bytes: a file twice as large is expected to take twice as long.

    Args:
        clips: Absolute paths of the clips that will be analyzed.
        out: Absolute path of the folder of results.
    """

    def __init__(self, clips: list[Path], out: Path) -> None:
        self._bytes = {str(clip): size_of(clip) or 0 for clip in clips}
        self._out = out
        self._started_at = time.monotonic()
        self._ended: list[str] = []
        self._bytes_done = 0  # of clips that worked: broken ones take no time
        self._bars = bars() if sys.stderr.isatty() else None
        self._task = None
        if self._bars and len(clips) > 1:
            self._task = self._bars.add_task("clips", total=sum(self._bytes.values()), count=f"0/{len(clips)}")

    def __enter__(self) -> Display:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            self._bars.stop()

    def start_clip(self, clip: Path) -> None:
        """Print the name of the clip that is analyzed next."""
        if not self._bars:
            print_status(f"{display_path(clip)} ({len(self._ended) + 1} of {len(self._bytes)})")

    def show_stage(self, items: Iterable[Any], stage: str, total: int | None) -> Iterable[Any]:
        """Return the items of a stage of the present clip behind a progress bar."""
        if self._bars:
            return watched(items, self._bars, stage, total)
        print_status(f"{stage} ...")
        return items

    def finish_clip(self, record: dict[str, Any], fault: str) -> None:
        """Print the result of a clip."""
        self._ended.append(record["clip"])
        if record["status"] == "done":
            self._bytes_done += self._bytes[record["clip"]]
            self._print_result(record)
        else:
            print_error(one_line(record["error"]))
            if fault:
                log.error("unexpected failure, please report it:\n%s", fault)
        if self._bars and self._task is not None:
            self._bars.update(self._task, completed=self._bytes_ended(), count=f"{len(self._ended)}/{len(self._bytes)}")
        elif len(self._bytes) > len(self._ended):
            print_status(f"{len(self._ended)} of {len(self._bytes)} clips{self._time_left()}")

    def _print_result(self, record: dict[str, Any]) -> None:
        folder = self._out / record["folder"]
        duration, stages = record["duration_s"], record["stage_seconds"]
        total = sum(stages.values())
        print_result(f"{display_path(Path(record['clip']))}: {display_path(folder)}")
        for warning in record["warnings"]:
            print_result(f"  warning: {one_line(warning)}")
        people = {0: "nobody found", 1: "1 person"}.get(record["people"], f"{record['people']} people")
        if record["people_found"] > record["people"]:
            people = f"{record['people']} of {record['people_found']} people found"
        print_result(f"  {record['frames']} frames, {duration:.1f} s at {record['fps']:.2f} fps; {people}")
        rates = {name: f" ({record['frames'] / s:.0f} frames/s)" if s > 0.05 else "" for name, s in stages.items()}
        times = ", ".join(f"{name} {s:.2f} s{rates[name]}" for name, s in stages.items())
        print_result(f"  {times}; together {total:.2f} s, {duration / total:.2f} x real time")
        for line in summary_lines([PersonQuality(**quality) for quality in record["quality"]]):
            print_result(f"  {line}")
        if len(self._bytes) == 1:
            for file in record["files"]:
                print_result(f"  {display_path(folder / file)}")

    def _bytes_ended(self) -> int:
        return sum(self._bytes[clip] for clip in self._ended)

    def _time_left(self) -> str:
        if not self._bytes_done:
            return ""
        rate = self._bytes_done / (time.monotonic() - self._started_at)
        hours, minutes = divmod(round((sum(self._bytes.values()) - self._bytes_ended()) / rate / 60), 60)
        return f", about {hours} h {minutes} min left" if hours else f", about {minutes} min left"


def display_path(path: Path) -> str:
    """Return a path in one line, relative to the current folder if it lies in it."""
    return one_line(os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path))
