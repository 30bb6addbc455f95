"""Supervises one worker process: gives it the jobs of the queue, follows its progress, and replaces it if it fails."""

from __future__ import annotations

import logging
import queue
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from app.batch.output_folder import MARKER
from app.options import ServerOptions
from app.web.job import CANCELLED, DONE, FAILED, Job
from app.web.job_queue import JobQueue
from app.web.worker_process import Worker, make_order

log = logging.getLogger(__name__)
POLL_S = 0.1


class WorkerSupervisor(threading.Thread):
    """A thread that has the jobs of a queue analyzed by one worker process until the queue closes.

    Args:
        jobs: The queue.
        settings: Of the server.
        environment: Environment variables for the worker, beside the server's own.
        on_started: Called with what the worker says when it has loaded the usual networks: ``gpus``, their number,
            ``device``, where it works, and ``models``, what it analyzes with.
    """

    def __init__(
        self,
        jobs: JobQueue,
        settings: ServerOptions,
        environment: dict[str, str],
        on_started: Callable[[dict[str, Any]], None],
    ) -> None:
        super().__init__(name="worker supervisor", daemon=True)
        self._jobs = jobs
        self._settings = settings
        self._environment = environment
        self._on_started = on_started
        self._worker: Worker | None = None

    @property
    def pid(self) -> int | None:
        """Id of the worker process, None while there is none."""
        worker = self._worker
        return worker.pid if worker is not None and worker.is_alive else None

    def run(self) -> None:
        """Work until the queue closes; the worker process ends with this thread."""
        try:
            self._wait_for_start()  # imports take seconds: they are done before the first job comes
            while (job := self._jobs.next_job()) is not None:
                try:
                    state, error = self._analyze(job)
                except Exception as fault:  # a fault of ours in one job must not stop the others
                    log.exception("unexpected failure, please report it")
                    self._end_worker()
                    state, error = FAILED, f"{job.name} was not finished ({type(fault).__name__}: {fault})"
                if state != DONE:
                    job.delete_files()
                elif (job.record or {})[
                    "people"
                ] < 2:  # who chooses among several gets a new overlay, drawn on the video
                    shutil.rmtree(job.clip.parent, ignore_errors=True)
                self._jobs.finish(job, state, error)
        finally:
            self._end_worker()

    def _wait_for_start(self) -> None:
        """Return when the worker is ready, or has ended: then the first job starts another and reports its failure."""
        worker = self._running_worker()
        while not self._jobs.is_closed:
            with suppress(queue.Empty):
                message = worker.messages.get(timeout=POLL_S)
                if message is not None:
                    self._on_started(message)
                return

    def _running_worker(self) -> Worker:
        if self._worker is None or not self._worker.is_alive:
            self._end_worker()
            self._worker = Worker(self._environment, self._settings.device)
        return self._worker

    def _end_worker(self) -> int:
        code = self._worker.end() if self._worker is not None else 0
        self._worker = None
        return code

    def _analyze(self, job: Job) -> tuple[str, str]:
        """Return the state that a job ended in and, if it failed, why."""
        worker = self._running_worker()
        worker.send(make_order(job))
        last_message_at, cancel_sent_at = time.monotonic(), None
        while True:
            message: dict[str, Any] | None = {}
            with suppress(queue.Empty):
                message = worker.messages.get(timeout=POLL_S)
            now = time.monotonic()
            if message is None:
                return self._worker_ended(job)
            if message:
                last_message_at = now
                if (end := self._receive(job, message)) is not None:
                    return end
            if job.is_cancel_requested and cancel_sent_at is None:
                cancel_sent_at = now
                worker.send({"cancel": job.id})
            is_overdue = cancel_sent_at is not None and now - cancel_sent_at > self._settings.cancel_s
            if self._jobs.is_closed or is_overdue:
                self._end_worker()
                return CANCELLED, ""
            if now - last_message_at > self._settings.stall_s:
                self._end_worker()
                return FAILED, (
                    f"{job.name} was given up: nothing moved for {self._settings.stall_s:.0f} s; try a shorter clip, "
                    "or tell whoever runs this server"
                )

    def _receive(self, job: Job, message: dict[str, Any]) -> tuple[str, str] | None:
        """Record a message of the worker; return how the job ended if it did."""
        if message.get("id") != job.id:
            return None
        if "stage" in message:
            self._jobs.update_progress(job, message["stage"], message["done"], message["total"])
            return None
        if "is_cancelled" in message:
            return CANCELLED, ""
        if "error" in message:
            if message["fault"]:
                log.error("unexpected failure, please report it:\n%s", message["fault"])
            return FAILED, _without_paths(message["error"], job)
        job.record = {name: value for name, value in message["record"].items() if name not in ("clip", "worker")}
        job.files = {
            path.name: path
            for path in sorted((job.out / job.clip.stem).iterdir())
            if path.name != MARKER and path.is_file() and not path.is_symlink()
        }
        return DONE, ""

    def _worker_ended(self, job: Job) -> tuple[str, str]:
        code = self._end_worker()
        if job.is_cancel_requested:
            return CANCELLED, ""
        why = f"signal {-code}" if code < 0 else f"exit code {code}"
        log.error("the worker process ended (%s) while it analyzed %s", why, job.clip)
        return FAILED, (
            f"{job.name} was not finished: the process that analyzed it ended ({why}), mostly because memory ran out; "
            "try a shorter clip or a smaller picture"
        )


def _without_paths(error: str, job: Job) -> str:
    """Return a sentence without paths of this machine."""
    return error.replace(str(job.clip), job.name).replace(str(job.out), "the server").replace(str(job.folder), "...")
