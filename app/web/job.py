"""A job of the web app, and the snapshot of it that pages show."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.options import Options

QUEUED, RUNNING, DONE, FAILED, CANCELLED = ("queued", "running", "done", "failed", "cancelled")
STAGES = ("models", "2D", "3D", "overlay", "files")  # in this order; those between "models" and "files" count items
TIMED_STAGES = ("2D", "3D", "overlay")  # their time grows with the clip
FRAME_STAGES = ("2D", "overlay")  # their items are frames


@dataclass(frozen=True)
class Status:
    """A job at one moment.

    Two statuses are equal if they differ in nothing but the passing of time.

    Attributes:
        state: queued, running, done, failed or cancelled; the last three are final.
        position: Place in the queue, 1 for the next one; 0 unless queued.
        stage: One of STAGES while running, else empty.
        done: Items of the stage that are done: frames in 2D and overlay, batches of windows in 3D.
        total: Items of the stage; None if they cannot be counted, and for stages without items.
        rate: Items per second in this stage so far; None at its beginning.
        seconds_left: Of all stages, estimated from this stage and from earlier jobs; None while nothing is known.
        error: Why it failed, one sentence.
        record: Of a job that is done: people, frames, fps, quality, warnings, ... as in clip.json.
    """

    state: str
    position: int = 0
    stage: str = ""
    done: int = 0
    total: int | None = None
    rate: float | None = field(default=None, compare=False)
    seconds_left: float | None = field(default=None, compare=False)
    error: str = ""
    record: dict[str, Any] | None = None

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self.state in (DONE, FAILED, CANCELLED)


@dataclass(eq=False)
class Job:
    """A job as the server knows it; the queue's lock guards its fields.

    Attributes:
        id: Hard to guess.
        name: Of the video, as the results call it.
        folder: Everything that belongs to the job.
        clip: The video, a copy in ``folder``.
        options: Settings of the analysis.
        num_frames: Of the video, as counted before the job was accepted.
        files: Results by file name, of a job that is done.
        is_cancel_requested: Whether somebody wants it cancelled.
        ended_at: ``time.monotonic()`` of its end; None before.
    """

    id: str
    name: str
    folder: Path
    clip: Path
    options: Options
    num_frames: int
    state: str = QUEUED
    stage: str = ""
    stage_started_at: float = 0.0
    done: int = 0
    total: int | None = None
    error: str = ""
    record: dict[str, Any] | None = None
    files: dict[str, Path] = field(default_factory=dict)
    is_cancel_requested: bool = False
    ended_at: float | None = None

    @property
    def out(self) -> Path:
        """The folder that results are written to."""
        return self.folder / "out"

    def delete_files(self) -> None:
        """Delete the video and all results."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def update_progress(self, stage: str, done: int, total: int | None) -> None:
        """Record how far the worker is."""
        if stage != self.stage:
            self.stage, self.stage_started_at = stage, time.monotonic()
        # The container's own count may be wrong; ``num_frames`` was counted.
        self.done, self.total = done, self.num_frames if stage in FRAME_STAGES else total

    def finish(self, state: str, error: str = "") -> None:
        """Record the end of the job."""
        self.state, self.error, self.stage, self.ended_at = state, error, "", time.monotonic()
        self.done, self.total = 0, None

    def status(self, position: int, seconds_per_frame: dict[str, float]) -> Status:
        """Return a snapshot.

        Args:
            position: In the queue.
            seconds_per_frame: Time that stages took in earlier jobs.
        """
        elapsed = time.monotonic() - self.stage_started_at
        rate = self.done / elapsed if self.state == RUNNING and self.done and elapsed > 0 else None
        return Status(
            self.state, position, self.stage, self.done, self.total, rate, self._seconds_left(rate, seconds_per_frame),
            self.error, self.record,
        )  # fmt: skip

    def _seconds_left(self, rate: float | None, seconds_per_frame: dict[str, float]) -> float | None:
        """Return the time left of this stage, at its rate, and of the later ones, at the rate of earlier jobs."""
        if self.state != RUNNING or self.stage not in STAGES:
            return None
        later = [
            name for name in STAGES[STAGES.index(self.stage) + 1 :]
            if name in TIMED_STAGES and (name != "overlay" or self.options.has_overlay)
        ]  # fmt: skip
        left = sum(seconds_per_frame.get(name, 0.0) for name in later) * self.num_frames
        if self.total is not None and rate is not None:
            return max(0, self.total - self.done) / rate + left
        if self.stage in seconds_per_frame:
            return seconds_per_frame[self.stage] * self.num_frames + left
        return left if self.stage == "files" else None
