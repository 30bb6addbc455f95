"""A job of the web app: what is known of it, and the snapshot of that which pages show."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.options import Options
from app.web.upload_probe import UploadInfo

QUEUED, RUNNING, DONE, FAILED, CANCELLED = STATES = ("queued", "running", "done", "failed", "cancelled")
STAGES = ("models", "2D", "3D", "overlay", "files")  # in this order; those between "models" and "files" count items
PER_FRAME = ("2D", "3D", "overlay")  # stages whose time grows with the clip


@dataclass(frozen=True)
class Status:
    """What there is to show of a job at one moment.

    Attributes:
        id: Of the job; nobody guesses it.
        name: Of the video, as the results call it.
        state: One of STATES; the last three are final.
        position: Place in the queue, 1 for the next one; 0 unless queued.
        stage: One of STAGES while running, else empty.
        done: Items of the stage that are done: frames in 2D and overlay, batches of windows in 3D.
        total: Items of the stage; None if they cannot be counted, and for stages without items.
        rate: Items per second in this stage so far; None at its beginning.
        seconds_left: Of all stages, judged by this stage and by earlier jobs; None while nothing is known.
        error: Why it failed, one sentence.
        report: What the guard found out about the video.
        record: Of a job that is done: people, frames, fps, quality, warnings, ... as in clip.json.
        expires_in_s: Seconds until a job that has ended is deleted; None before.
    """

    id: str
    name: str
    state: str
    position: int = 0
    stage: str = ""
    done: int = 0
    total: int | None = None
    rate: float | None = None
    seconds_left: float | None = None
    error: str = ""
    report: UploadInfo | None = None
    record: dict[str, Any] | None = None
    expires_in_s: float | None = None

    @property
    def is_final(self) -> bool:
        """Whether nothing will change any more but that the job is deleted."""
        return self.state in (DONE, FAILED, CANCELLED)


@dataclass(eq=False)
class Job:
    """A job as the service knows it; the service's lock is held by whoever reads or writes it.

    Attributes:
        folder: All that belongs to the job, deleted with it.
        clip: The video, a copy in ``folder``.
        files: Results by file name, of a job that is done.
        is_unwanted: It shall be cancelled.
    """

    id: str
    name: str
    folder: Path
    clip: Path
    options: Options
    report: UploadInfo
    state: str = QUEUED
    stage: str = ""
    done: int = 0
    total: int | None = None
    stage_began: float = 0.0
    error: str = ""
    record: dict[str, Any] | None = None
    files: dict[str, Path] = field(default_factory=dict)
    is_unwanted: bool = False
    ended: float | None = None

    @property
    def out(self) -> Path:
        """The folder that results are made in."""
        return self.folder / "out"

    def progress(self, stage: str, done: int, total: int | None) -> None:
        """Note how far the worker is."""
        if stage != self.stage:
            self.stage, self.stage_began = stage, time.monotonic()
        # What the container claims may be wrong; the guard has counted.
        self.done, self.total = done, self.report.num_frames if stage in ("2D", "overlay") else total

    def end(self, state: str, error: str = "") -> None:
        """Note that nothing more will happen."""
        self.state, self.error, self.stage, self.ended = state, error, "", time.monotonic()
        self.done, self.total = 0, None

    def status(self, position: int, usual: dict[str, float], keep_s: float) -> Status:
        """Return a snapshot.

        Args:
            position: In the queue.
            usual: Seconds per frame that stages took in earlier jobs.
            keep_s: How long jobs are kept that have ended.
        """
        now = time.monotonic()
        elapsed = now - self.stage_began
        rate = self.done / elapsed if self.state == RUNNING and self.done and elapsed > 0 else None
        return Status(
            self.id, self.name, self.state, position, self.stage, self.done, self.total, rate,
            self._seconds_left(rate, usual), self.error, self.report, self.record,
            None if self.ended is None else max(0.0, self.ended + keep_s - now),
        )  # fmt: skip

    def _seconds_left(self, rate: float | None, usual: dict[str, float]) -> float | None:
        """Return what is left of this stage, at its rate, and of the stages behind it, as long as they usually take."""
        if self.state != RUNNING or self.stage not in STAGES:
            return None
        here = STAGES.index(self.stage)
        behind = [name for name in STAGES[here + 1 :] if name in PER_FRAME]
        if not self.options.has_overlay and "overlay" in behind:
            behind.remove("overlay")
        left = sum(usual.get(name, 0.0) for name in behind) * self.report.num_frames
        if self.total is not None and rate is not None:
            return max(0, self.total - self.done) / rate + left
        if self.stage in usual:
            return usual[self.stage] * self.report.num_frames + left
        return left if self.stage == "files" else None
