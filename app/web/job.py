"""A job of the web app, and the snapshot of it that pages and programs are shown."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.options import Options

QUEUED, RUNNING, DONE, FAILED, CANCELLED = ("queued", "running", "done", "failed", "cancelled")
STAGES = ("models", "2D", "tracks", "3D", "export", "overlay", "files")  # in this order
FRAME_STAGES = ("2D", "overlay")  # their items are frames
# Seconds that stages take on two cores before a job has shown it: the networks are loaded, one person, 640 x 480.
MODELS_S = 1.0
USUAL_S_PER_FRAME = {"2D": 0.03, "tracks": 0.002, "3D": 0.015, "export": 0.004, "overlay": 0.012, "files": 0.001}
TRUSTED_AFTER_S = 3.0  # work after which a machine's own pace counts as much as the usual one


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
        progress: Share of the whole job that is done, 0 to 1; it never goes back.
        seconds_left: Of all stages, from the pace of this job and the times of earlier ones; None unless running.
        expires_in_s: Until everything of an ended job is deleted; None before its end.
        error: Why it failed, one sentence.
        record: Of a job that is done: people, frames, fps, quality, warnings, ... as in clip.json.
    """

    state: str
    position: int = 0
    stage: str = ""
    done: int = 0
    total: int | None = None
    progress: float = field(default=0.0, compare=False)
    seconds_left: float | None = field(default=None, compare=False)
    expires_in_s: float | None = field(default=None, compare=False)
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
        clip: The video, a copy in ``folder``; of a job with ``source`` that one's.
        options: Settings of the analysis.
        num_frames: Of the video, as counted before the job was accepted.
        source: A job that is done, whose results this one only rewrites with fewer people; no network runs.
        is_example: Everybody may look at it, nobody can delete it, and it does not expire.
        files: Results by file name, of a job that is done.
        is_cancel_requested: Whether somebody wants it cancelled.
        ended_at: ``time.monotonic()`` of its end; None before.
        stage_seconds: Wall seconds of the stages that have ended.
    """

    id: str
    name: str
    folder: Path
    clip: Path
    options: Options
    num_frames: int
    source: Job | None = None
    is_example: bool = False
    state: str = QUEUED
    stage: str = ""
    stage_started_at: float = 0.0
    done: int = 0
    total: int | None = None
    progress: float = 0.0
    error: str = ""
    record: dict[str, Any] | None = None
    files: dict[str, Path] = field(default_factory=dict)
    is_cancel_requested: bool = False
    ended_at: float | None = None
    stage_seconds: dict[str, float] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        """The folder that results are written to."""
        return self.folder / "out"

    @property
    def pictures(self) -> Path:
        """The folder of the pictures of people, ``<id>.jpg``."""
        return self.folder / "people"

    def delete_files(self) -> None:
        """Delete the video and all results."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def update_progress(self, stage: str, done: int, total: int | None) -> None:
        """Record how far the worker is."""
        if stage != self.stage:
            self._end_stage()
            self.stage, self.stage_started_at = stage, time.monotonic()
        # The container's own count may be wrong; ``num_frames`` was counted.
        self.done, self.total = done, self.num_frames if stage in FRAME_STAGES else total

    def finish(self, state: str, error: str = "") -> None:
        """Record the end of the job."""
        self._end_stage()
        self.state, self.error, self.stage, self.ended_at = state, error, "", time.monotonic()
        self.done, self.total = 0, None

    def status(self, position: int, keep_s: float, seconds_per_frame: Mapping[str, float]) -> Status:
        """Return a snapshot.

        Args:
            position: In the queue.
            keep_s: Seconds from the end of a job to its deletion.
            seconds_per_frame: Time that every stage but "models" usually takes.
        """
        seconds_left = self._advance(seconds_per_frame) if self.state == RUNNING else None
        ended = None if self.ended_at is None or self.is_example else self.ended_at
        expires_in_s = None if ended is None else max(0.0, ended + keep_s - time.monotonic())
        return Status(
            self.state, position, self.stage, self.done, self.total, 1.0 if self.state == DONE else self.progress,
            seconds_left, expires_in_s, self.error, self.record,
        )  # fmt: skip

    def _end_stage(self) -> None:
        if self.stage:
            before = self.stage_seconds.get(self.stage, 0.0)
            self.stage_seconds[self.stage] = before + time.monotonic() - self.stage_started_at

    def _advance(self, seconds_per_frame: Mapping[str, float]) -> float:
        """Move ``progress`` to where the job is now and return the seconds that are left.

        Stages count as much as they usually take. What is left takes longer by as much as what is done did.
        """
        usual = {name: seconds_per_frame[name] * self.num_frames for name in self._stages() if name != "models"}
        usual = {"models": MODELS_S, **usual}
        before = sum(usual[name] for name in usual if name in self.stage_seconds and name != self.stage)
        spent, expected = time.monotonic() - self.stage_started_at, usual.get(self.stage, 0.0)
        share = _share_by_clock(spent / max(expected, 1e-3))  # where items are few or cannot be counted
        if self.total:
            share = min(max(share, self.done / self.total), (self.done + 0.9) / self.total, 1.0)
        done, total = before + expected * share, sum(usual.values())
        self.progress = max(self.progress, done / total)
        worked = spent + sum(s for name, s in self.stage_seconds.items() if name != "models")
        if self.stage == "models":
            return total - done
        pace = (worked + TRUSTED_AFTER_S) / (max(0.0, done - MODELS_S) + TRUSTED_AFTER_S)
        return (1 - self.progress) * total * pace

    def _stages(self) -> list[str]:
        """Return the stages of this job."""
        skipped = {"overlay"} if not self.options.has_overlay else set()
        return [name for name in STAGES if name not in skipped | ({"2D", "tracks", "3D"} if self.source else set())]


def _share_by_clock(times: float) -> float:
    """Return how much of a stage counts as done after this many times its usual time: slower and slower beyond 0.8."""
    return times if times < 0.8 else 1 - 0.2 * math.exp(-(times - 0.8) / 0.2)
