"""The queue of jobs: admission, order, progress, cancelling and expiry. It knows neither workers nor uploads."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from app.web.job import CANCELLED, DONE, QUEUED, RUNNING, USUAL_S_PER_FRAME, Job, Status

STOPPING = "the server is stopping; come back later"


class JobQueue:
    """All jobs of a server, from admission to expiry; any number of threads may use it.

    Args:
        max_waiting: Jobs that may wait; more are refused.
        keep_s: Seconds from the end of a job to its expiry.

    Attributes:
        is_closed: Whether the server is stopping.
    """

    def __init__(self, max_waiting: int, keep_s: float) -> None:
        self.is_closed = False
        self._max_waiting = max_waiting
        self._keep_s = keep_s
        self._changed = threading.Condition()  # its lock guards everything below, and every job
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._num_preparing = 0
        self._seconds_per_frame = dict(USUAL_S_PER_FRAME)

    def add(self, prepare: Callable[[], Job]) -> Job:
        """Return the job that ``prepare`` makes, in the queue; its place is reserved before ``prepare`` is called.

        Raises:
            RuntimeError: The queue is full, or the server is stopping.
        """
        with self._changed:
            if self.is_closed:
                raise RuntimeError(STOPPING)
            if len(self._waiting) + self._num_preparing >= self._max_waiting:
                raise RuntimeError(
                    f"the queue is full: {self._max_waiting} clips wait already; try again in some minutes"
                )
            self._num_preparing += 1
        job = None
        try:
            job = prepare()
        finally:
            with self._changed:
                self._num_preparing -= 1
                is_accepted = job is not None and not self.is_closed
                if job is not None and is_accepted:
                    self._jobs[job.id] = job
                    self._waiting.append(job)
                    self._changed.notify_all()
        if not is_accepted:
            job.delete_files()
            raise RuntimeError(STOPPING)
        return job

    # For pages and programs, by the id of a job. All raise KeyError, with a sentence, where there is no such job.

    def status(self, job_id: str) -> Status:
        """Return the present status of a job."""
        with self._changed:
            return self._status(self._job(job_id))

    def watch(self, job_id: str, interval_s: float = 0.5) -> Iterator[Status]:
        """Yield the status of a job now and after every change, one per interval at most, up to the final one."""
        last = None
        while last is None or not last.is_final:
            with self._changed:
                while (status := self._status(self._job(job_id))) == last:
                    self._changed.wait(timeout=1.0)
            yield status
            last = status
            if not status.is_final:
                time.sleep(interval_s)

    def cancel(self, job_id: str) -> None:
        """Cancel a job: at once if it waits, else its worker is asked to stop. Ended ones stay as they are."""
        with self._changed:
            job = self._job(job_id)
            if job.state == QUEUED:
                self._waiting.remove(job)
                job.finish(CANCELLED)
                job.delete_files()
            job.is_cancel_requested = True
            self._changed.notify_all()

    def files(self, job_id: str) -> dict[str, Path]:
        """Return the results of a job by file name; none unless it is done."""
        return dict(self.job(job_id).files)

    def job(self, job_id: str) -> Job:
        """Return the job itself; what changes in it is guarded by the queue's lock."""
        with self._changed:
            return self._job(job_id)

    def family(self, job_id: str) -> list[Job]:
        """Return the job with this id, the one whose results it rewrote, and all that rewrote the same ones.

        Those of an example belong to different people: it is the job alone.
        """
        with self._changed:
            job = self._job(job_id)
            root = job.source or job
            if root.is_example:
                return [job]
            return [job for job in self._jobs.values() if job is root or job.source is root]

    def remove(self, jobs: list[Job]) -> None:
        """Forget jobs that have ended."""
        with self._changed:
            for job in jobs:
                self._jobs.pop(job.id, None)
            self._changed.notify_all()

    @property
    def counts(self) -> dict[str, int]:
        """How many jobs wait and run."""
        with self._changed:
            running = sum(job.state == RUNNING for job in self._jobs.values())
            return {"waiting": len(self._waiting), "running": running}

    # For workers.

    def next_job(self) -> Job | None:
        """Return the next job, now running, as soon as there is one; None when the queue closes."""
        with self._changed:
            while not self._waiting and not self.is_closed:
                self._changed.wait()
            if self.is_closed:
                return None
            job = self._waiting.popleft()
            job.state = RUNNING
            job.update_progress("models", 0, None)
            self._changed.notify_all()
            return job

    def update_progress(self, job: Job, stage: str, done: int, total: int | None) -> None:
        """Record how far the worker of a job is."""
        with self._changed:
            job.update_progress(stage, done, total)
            self._changed.notify_all()

    def finish(self, job: Job, state: str, error: str) -> None:
        """Record how a job ended."""
        with self._changed:
            job.finish(state, error)
            if state == DONE:
                took = {name: s for name, s in job.stage_seconds.items() if name in self._seconds_per_frame}
                self._seconds_per_frame |= {name: seconds / job.num_frames for name, seconds in took.items()}
            self._changed.notify_all()

    # For the server.

    def remove_expired(self, timeout_s: float) -> list[Job]:
        """Return jobs that have expired, no longer in the queue; wait up to ``timeout_s`` if there are none."""
        with self._changed:
            deadline = time.monotonic() - self._keep_s
            ended = [job for job in self._jobs.values() if job.ended_at is not None and not job.is_example]
            expired = [job for job in ended if (job.ended_at or 0.0) < deadline]
            for job in expired:
                del self._jobs[job.id]
            if not expired and not self.is_closed:
                self._changed.wait(timeout_s)
        return expired

    def close(self) -> None:
        """Cancel all jobs that wait and refuse new ones; workers stop."""
        with self._changed:
            self.is_closed = True
            for job in self._waiting:
                job.finish(CANCELLED)
            self._waiting.clear()
            self._changed.notify_all()

    def _job(self, job_id: str) -> Job:
        if job_id not in self._jobs:
            raise KeyError(
                f"there is no such job any more: it was deleted, as results are after {self._keep_s / 60:.0f} minutes; "
                "start it again"
            )
        return self._jobs[job_id]

    def _status(self, job: Job) -> Status:
        position = 1 + self._waiting.index(job) if job.state == QUEUED else 0
        return job.status(position, self._keep_s, self._seconds_per_frame)
