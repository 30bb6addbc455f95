"""The job service behind the web app: uploads become jobs, jobs wait in a queue, workers analyze them, files are kept.

No web in it: whoever builds a page or an API calls ``Service`` from as many threads as they like.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from app.batch.worker_resources import share_of
from app.options import Options, ServerOptions
from app.web.job import CANCELLED, DONE, PER_FRAME, QUEUED, RUNNING, Job, Status
from app.web.job_folders import JobFolders, take_in
from app.web.upload_probe import inspect
from app.web.worker_supervisor import WorkerSupervisor
from checkpoints import downloads
from lifter import LIFTERS

DEFAULTS = ServerOptions()
SWEEP_S = 1.0  # how late a job may be deleted


class Service:
    """Jobs, from the upload to the day their results are deleted. Use it in a ``with`` statement, or close it.

    Args:
        settings: Of whoever runs the server.
        root: Where jobs have their folders; default the system's folder for temporary files.

    Raises:
        OSError: Nothing can be written to ``root``.
    """

    def __init__(self, settings: ServerOptions = DEFAULTS, root: Path | None = None) -> None:
        self.settings = settings
        self.is_closing = False
        self._rooms = JobFolders(root)
        self._changed = threading.Condition()  # its lock guards all below, and every job
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._num_arriving = 0
        self._usual: dict[str, float] = {}
        self._looks = threading.BoundedSemaphore(os.cpu_count() or 1)
        self._seats: list[WorkerSupervisor] = []
        self._add_seat(settings.num_workers or 1, 0)
        self._cleaner = threading.Thread(target=self._clean, name="cleaner", daemon=True)
        self._cleaner.start()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, upload: Path | str, options: Options = Options(), name: str | None = None) -> str:
        """Return the id of a new job that will analyze a copy of ``upload``; the original may go at once.

        Takes a second: the file is looked at by the guard.

        Args:
            upload: The file.
            options: Settings; ``device`` is the server's business and replaced.
            name: What the user calls the file; default its name.

        Raises:
            ValueError: No such video, or one beyond the limits, or options that are not open to strangers.
            RuntimeError: Too many wait already, or the server has no room or is stopping.
        """
        self._check_options(options)
        upload = Path(upload)
        self._arrive()
        try:
            job = self._taken_in(upload, name or upload.name, options)
        except BaseException:
            with self._changed:
                self._num_arriving -= 1
            raise
        with self._changed:
            self._num_arriving -= 1
            if not self.is_closing:
                self._jobs[job.id] = job
                self._waiting.append(job)
                self._changed.notify_all()
                return job.id
        shutil.rmtree(job.folder, ignore_errors=True)
        raise RuntimeError("the server is stopping; come back later")

    def status(self, job_id: str) -> Status:
        """Return what there is to show of a job now.

        Raises:
            KeyError: There is no such job, or it was deleted; the text is a sentence.
        """
        with self._changed:
            return self._status(self._job(job_id))

    def watch(self, job_id: str, interval_s: float = 0.5) -> Iterator[Status]:
        """Yield the status of a job now and when it has changed, no more often than stated, up to the final one.

        Raises:
            KeyError: As ``status``.
        """
        last = None
        while True:
            with self._changed:
                status = self._status(self._job(job_id))
                while last is not None and not status.is_final and _same(status, last):
                    self._changed.wait(timeout=1.0)
                    status = self._status(self._job(job_id))
            if last is None or not _same(status, last):
                yield status
            if status.is_final:
                return
            last = status
            time.sleep(interval_s)

    def cancel(self, job_id: str) -> None:
        """Stop a job; it is ``cancelled`` at once if it waits, else within ``settings.cancel_s``. Ended ones stay.

        Raises:
            KeyError: As ``status``.
        """
        with self._changed:
            job = self._job(job_id)
            if job.state == QUEUED:
                self._waiting.remove(job)
                job.end(CANCELLED)
                job.clip.unlink(missing_ok=True)
            job.is_unwanted = True
            self._changed.notify_all()

    def delete(self, job_id: str) -> None:
        """Delete a job that has ended, results and all, before its time.

        Raises:
            KeyError: As ``status``.
            RuntimeError: It has not ended; cancel it first.
        """
        with self._changed:
            job = self._job(job_id)
            if job.ended is None:
                raise RuntimeError(f"{job.name} is {job.state}; cancel it first")
            del self._jobs[job_id]
        shutil.rmtree(job.folder, ignore_errors=True)

    def files(self, job_id: str) -> dict[str, Path]:
        """Return the results of a job by file name; none unless it is done.

        Raises:
            KeyError: As ``status``.
        """
        with self._changed:
            return dict(self._job(job_id).files)

    def file(self, job_id: str, name: str) -> Path:
        """Return the path of one result; ``name`` is compared with the names of results and never used as a path.

        Raises:
            KeyError: As ``status``, or there is no such file.
        """
        files = self.files(job_id)
        if name not in files:
            raise KeyError(f"the job has no file {name!r}; it has {', '.join(files) or 'none'}")
        return files[name]

    def close(self) -> None:
        """End all workers and delete all jobs; nothing is left, no process and no folder."""
        with self._changed:
            self.is_closing = True
            for job in self._waiting:
                job.end(CANCELLED)
            self._waiting.clear()
            seats = list(self._seats)
            self._changed.notify_all()
        for seat in seats:
            seat.join()
        self._cleaner.join()
        self._rooms.close()

    @property
    def worker_pids(self) -> list[int]:
        """Processes that analyze jobs at the moment."""
        return [seat.pid for seat in self._seats if seat.pid is not None]

    # What seats call.

    def next_job(self) -> Job | None:
        """Return the next job once there is one, None when the service closes."""
        with self._changed:
            while not self._waiting and not self.is_closing:
                self._changed.wait()
            if self.is_closing:
                return None
            job = self._waiting.popleft()
            job.state = RUNNING
            job.progress("models", 0, None)
            self._changed.notify_all()
            return job

    def moved(self, job: Job, stage: str, done: int, total: int | None) -> None:
        """Note how far a worker is."""
        with self._changed:
            job.progress(stage, done, total)
            self._changed.notify_all()

    def ended(self, job: Job, state: str, error: str) -> None:
        """Note how a job ended."""
        with self._changed:
            job.end(state, error)
            if state == DONE and job.record is not None and job.record["frames"]:
                seconds = job.record["stage_seconds"]
                self._usual |= {name: seconds[name] / job.record["frames"] for name in PER_FRAME if name in seconds}
            self._changed.notify_all()

    def on_gpus(self, num_gpus: int) -> None:
        """Add the other seats, now that the first worker says how many GPUs there are."""
        count = self.settings.num_workers or max(1, num_gpus)
        while len(self._seats) < count and not self.is_closing:
            self._add_seat(count, num_gpus)

    def _add_seat(self, count: int, num_gpus: int) -> None:
        number = len(self._seats)
        share = share_of(number, count, self.settings.device, num_gpus, os.cpu_count() or 1)
        if number == 0:  # it counts the GPUs, so it must see all; it uses the first
            share.pop("CUDA_VISIBLE_DEVICES", None)
        with self._changed:
            if not self.is_closing:
                self._seats.append(WorkerSupervisor(self, share))
                self._seats[-1].start()

    def _check_options(self, options: Options) -> None:
        """Raise ValueError if options name files of the server that nobody offered."""
        offered = {*LIFTERS, *downloads(), *self.settings.weights}
        for name in (options.lifter, *options.detector_weights):
            if name not in offered:
                raise ValueError(f"unknown weights {name!r}; choose from {', '.join(LIFTERS)}")

    def _arrive(self) -> None:
        with self._changed:
            if self.is_closing:
                raise RuntimeError("the server is stopping; come back later")
            if len(self._waiting) + self._num_arriving >= self.settings.max_waiting:
                raise RuntimeError(
                    f"the queue is full: {self.settings.max_waiting} clips wait already; try again in some minutes"
                )
            self._num_arriving += 1

    def _taken_in(self, upload: Path, name: str, options: Options) -> Job:
        try:
            folder = self._rooms.open()
        except OSError as error:
            raise RuntimeError(f"the server cannot take in {name} ({error.strerror}); try again later") from error
        try:
            clip = take_in(upload, name, folder, self.settings.limits.max_bytes)
            with self._looks:  # no more looks at once than cores: each has its time limit
                report = inspect(clip, self.settings.limits)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise RuntimeError(f"the server cannot take in {name} ({error.strerror}); try again later") from error
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return Job(folder.name, clip.name, folder, clip, replace(options, device=self.settings.device), report)

    def _job(self, job_id: str) -> Job:
        if job_id not in self._jobs:
            minutes = self.settings.keep_s / 60
            raise KeyError(f"there is no such job any more: results are kept for {minutes:.0f} minutes; start it again")
        return self._jobs[job_id]

    def _status(self, job: Job) -> Status:
        position = 1 + self._waiting.index(job) if job.state == QUEUED else 0
        return job.status(position, self._usual, self.settings.keep_s)

    def _clean(self) -> None:
        """Delete jobs whose time has come."""
        while not self.is_closing:
            with self._changed:
                now = time.monotonic()
                old = [
                    job for job in self._jobs.values()
                    if job.ended is not None and now - job.ended > self.settings.keep_s
                ]  # fmt: skip
                for job in old:
                    del self._jobs[job.id]
                if not old and not self.is_closing:
                    self._changed.wait(timeout=SWEEP_S)
            for job in old:
                shutil.rmtree(job.folder, ignore_errors=True)


def _same(a: Status, b: Status) -> bool:
    """Return whether nothing happened between two moments but that time went by."""
    return replace(a, rate=None, seconds_left=None, expires_in_s=None) == replace(
        b, rate=None, seconds_left=None, expires_in_s=None
    )
