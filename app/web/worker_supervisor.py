"""A seat for one worker process: takes jobs from the queue, has them analyzed, survives whatever the worker does."""

from __future__ import annotations

import logging
import queue
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.batch.output_folder import MARKER
from app.web.job import CANCELLED, DONE, FAILED, Job
from app.web.worker_process import Worker, order_of

if TYPE_CHECKING:
    from app.web.service import Service

log = logging.getLogger(__name__)
POLL_S = 0.1


class WorkerSupervisor(threading.Thread):
    """Works for ``service`` until there are no more jobs to come.

    Args:
        service: Hands out jobs and is told what becomes of them.
        environment: What the worker process gets beside the server's environment variables.
    """

    def __init__(self, service: Service, environment: dict[str, str]) -> None:
        super().__init__(name="seat", daemon=True)
        self._service = service
        self._environment = environment
        self._worker: Worker | None = None

    @property
    def pid(self) -> int | None:
        """Of the worker process, None while there is none."""
        worker = self._worker
        return worker.pid if worker is not None and worker.is_alive else None

    def run(self) -> None:
        """Work until the service closes; the worker process does not outlive this."""
        try:
            self._await_start()  # imports take seconds: not when somebody waits
            while (job := self._service.next_job()) is not None:
                try:
                    state, error = self._work(job)
                except Exception as fault:  # a fault of ours in one job must not end the seat
                    log.exception("unexpected failure, please report it")
                    self._end_worker()
                    state, error = FAILED, f"{job.name} was not finished ({type(fault).__name__}: {fault})"
                if state != DONE:
                    shutil.rmtree(job.out, ignore_errors=True)
                job.clip.unlink(missing_ok=True)
                self._service.ended(job, state, error)
        finally:
            self._end_worker()

    def _await_start(self) -> None:
        """Return when the worker is ready, or has ended: then the first job tries again, and says what happens."""
        worker = self._ready_worker()
        while not self._service.is_closing:
            with suppress(queue.Empty):
                message = worker.messages.get(timeout=POLL_S)
                if message is not None:
                    self._service.on_gpus(int(message["gpus"]))
                return

    def _ready_worker(self) -> Worker:
        if self._worker is None or not self._worker.is_alive:
            self._end_worker()
            self._worker = Worker(self._environment)
        return self._worker

    def _end_worker(self) -> int:
        code = self._worker.end() if self._worker is not None else 0
        self._worker = None
        return code

    def _work(self, job: Job) -> tuple[str, str]:
        """Return how a job ended and, if it failed, why."""
        worker = self._ready_worker()
        worker.send(order_of(job.id, job.clip, job.out, job.clip.stem, job.options))
        settings = self._service.settings
        moved = time.monotonic()
        asked_to_stop = None
        while True:
            try:
                message = worker.messages.get(timeout=POLL_S)
            except queue.Empty:
                message = {}
            now = time.monotonic()
            if message is None:
                return self._died(job)
            if message:
                moved = now
                if (end := self._heard(job, message)) is not None:
                    return end
            if self._service.is_closing:
                return self._stopped()
            if job.is_unwanted and asked_to_stop is None:
                asked_to_stop = now
                worker.send({"cancel": job.id})
            if asked_to_stop is not None and now - asked_to_stop > settings.cancel_s:
                return self._stopped()
            if now - moved > settings.stall_s:
                self._end_worker()
                return FAILED, (
                    f"{job.name} was given up: nothing moved for {settings.stall_s:.0f} s; try a shorter clip, or "
                    "tell whoever runs this server"
                )

    def _heard(self, job: Job, message: dict[str, Any]) -> tuple[str, str] | None:
        """Take in what the worker says; return how the job ended if it did."""
        if message.get("id") != job.id:
            return None
        if "stage" in message:
            self._service.moved(job, message["stage"], message["done"], message["total"])
            return None
        if "is_cancelled" in message:
            return CANCELLED, ""
        if "error" in message:
            if message["fault"]:
                log.error("unexpected failure, please report it:\n%s", message["fault"])
            return FAILED, _for_strangers(message["error"], job)
        job.record = _without_places(message["record"])
        folder = job.out / job.clip.stem
        job.files = {
            path.name: path for path in sorted(folder.iterdir()) if path.name != MARKER and _is_plain_file(path)
        }
        return DONE, ""

    def _stopped(self) -> tuple[str, str]:
        self._end_worker()
        return CANCELLED, ""

    def _died(self, job: Job) -> tuple[str, str]:
        code = self._end_worker()
        if job.is_unwanted:
            return CANCELLED, ""
        why = f"signal {-code}" if code < 0 else f"exit code {code}"
        log.error("the worker ended (%s) while it was at %s", why, job.clip)
        return FAILED, (
            f"{job.name} was not finished: the process that analyzed it ended ({why}), mostly because memory ran out; "
            "try a shorter clip or a smaller picture"
        )


def _for_strangers(error: str, job: Job) -> str:
    """Return a sentence without places on this machine."""
    return error.replace(str(job.clip), job.name).replace(str(job.out), "the server").replace(str(job.folder), "...")


def _without_places(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in ("clip", "worker")}


def _is_plain_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
