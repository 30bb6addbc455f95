"""The job service behind the web app: uploads become jobs in a queue, workers analyze them, results are kept a while.

It serves no pages: whoever builds a page or an API calls ``Service`` from as many threads as they like.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from app.batch.worker_resources import worker_environment
from app.options import Options, ServerOptions
from app.web.job import CANCELLED, DONE, FAILED, Job
from app.web.job_folders import JobFolders, open_upload, safe_name, store_upload
from app.web.job_queue import JobQueue
from app.web.upload_probe import probe_upload
from app.web.worker_supervisor import WorkerSupervisor
from checkpoints import downloads
from lifter import LIFTERS

DEFAULTS = ServerOptions()
SWEEP_S = 1.0  # how late an expired job may be deleted


class Service:
    """Jobs, from the upload to the deletion of their results. Use it in a ``with`` statement, or close it.

    Args:
        settings: Of whoever runs the server.
        root: Where jobs have their folders; default the system's folder for temporary files.
        on_ready: Called once, with ``about``, when the first worker has loaded the usual networks.

    Attributes:
        queue: All jobs; pages ask it for their status and files.
        about: What the first worker says of itself, ``device`` and ``models``; empty before it is ready.

    Raises:
        OSError: Nothing can be written to ``root``.
    """

    def __init__(
        self,
        settings: ServerOptions = DEFAULTS,
        root: Path | None = None,
        on_ready: Callable[[dict[str, Any]], None] = lambda about: None,
    ) -> None:
        self.settings = settings
        self.about: dict[str, Any] = {}
        self._on_ready = on_ready
        self._examples: dict[Path, str] = {}
        self._examples_lock = threading.Lock()
        self.queue = JobQueue(settings.max_waiting, settings.keep_s)
        self._folders = JobFolders(root)
        self._probes = threading.BoundedSemaphore(os.cpu_count() or 1)
        self._supervisors: list[WorkerSupervisor] = []
        self._add_supervisor(settings.num_workers or 1, 0)
        self._cleaner = threading.Thread(target=self._delete_expired, name="cleaner", daemon=True)
        self._cleaner.start()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, upload: Path | str | BinaryIO, options: Options = Options(), name: str = "") -> str:
        """Return the id of a new job that will analyze a copy of ``upload``; the original may be deleted at once.

        Takes a second: the file is probed first.

        Args:
            upload: The file, or its path.
            options: Settings; ``device`` is replaced by the server's.
            name: Of the file as the user knows it; that of the path if left out.

        Raises:
            ValueError: No such video, or one beyond the limits, or options that name files of the server.
            RuntimeError: The queue is full, or the server cannot store the file or is stopping.
        """
        offered = {*LIFTERS, *downloads(), *self.settings.weights}
        for weights in (options.lifter, *options.detector_weights):
            if weights not in offered:
                raise ValueError(f"unknown weights {weights!r}; choose from {', '.join(LIFTERS)}")
        upload = Path(upload) if isinstance(upload, str) else upload
        return self.queue.add(lambda: self._prepare(upload, name, options)).id

    def example(self, clip: Path, options: Options) -> str:
        """Return the id of the job that analyzes a sample clip, the same for everybody; the first call starts it.

        Raises:
            RuntimeError: As ``submit``.
        """
        with self._examples_lock:
            known = self._examples.get(clip)
            if known is None or self.queue.status(known).state in (FAILED, CANCELLED):
                self._examples[clip] = known = self.submit(clip, options)
                self.queue.job(known).is_example = True
            return known

    def choose_people(self, job_id: str, people: str) -> str:
        """Return the id of a new job whose results are those of another without the people who were not chosen.

        Files are rewritten and the overlay is drawn again; no network runs. The other job stays as it is.

        Args:
            job_id: A job that is done.
            people: As ``Options.people``, for instance "0,2".

        Raises:
            KeyError: There is no such job any more.
            ValueError: It is not done, or nobody in it is meant.
        """
        source = self.queue.job(job_id)
        source = source.source or source
        if source.state != DONE:
            raise ValueError(f"{source.name} has no results yet; wait until it is done, then choose")
        options = replace(source.options, people=people)

        def prepare() -> Job:
            folder = self._folders.new_folder()
            return Job(folder.name, source.name, folder, source.clip, options, source.num_frames, source)

        return self.queue.add(prepare).id

    def delete(self, job_id: str) -> None:
        """Cancel a job and delete its video and everything made of it; both are gone when this returns.

        Jobs that rewrote its results, or whose results it rewrote, go with it: they show the same video.

        Raises:
            KeyError: There is no such job any more.
            ValueError: It is an example, which belongs to everybody.
        """
        jobs = self.queue.family(job_id)
        if any(job.is_example for job in jobs):
            raise ValueError("examples stay: they show no video of yours")
        for job in jobs:
            with suppress(KeyError):  # somebody else deleted it
                self.queue.cancel(job.id)
                for _ in self.queue.watch(job.id, 0.05):
                    pass
        for job in jobs:
            job.delete_files()
        self.queue.remove(jobs)

    def close(self) -> None:
        """End all workers and delete all jobs; no process and no folder is left."""
        self.queue.close()
        for supervisor in self._supervisors:  # the first one may still add others until it is joined
            supervisor.join()
        self._cleaner.join()
        self._folders.close()

    @property
    def folder(self) -> Path:
        """The folder that holds those of all jobs."""
        return self._folders.path

    @property
    def worker_pids(self) -> list[int]:
        """Ids of the worker processes that are running."""
        return [each.pid for each in self._supervisors if each.pid is not None]

    def _prepare(self, upload: Path | BinaryIO, name: str, options: Options) -> Job:
        name = name or (upload.name if isinstance(upload, Path) else "")
        folder = None
        try:
            folder = self._folders.new_folder()
            with open_upload(upload) if isinstance(upload, Path) else nullcontext(upload) as source:
                clip = store_upload(source, name, folder, self.settings.limits.max_bytes)
            with self._probes:  # no more at once than cores: each has its time limit
                num_frames = probe_upload(clip, self.settings.limits, (options.start_s, options.stop_s)).num_frames
        except BaseException as error:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError):
                text = f"the server cannot store {safe_name(name)} ({error.strerror}); try again later"
                raise RuntimeError(text) from error
            raise
        return Job(folder.name, clip.name, folder, clip, replace(options, device=self.settings.device), num_frames)

    def _add_supervisor(self, count: int, num_gpus: int) -> None:
        number = len(self._supervisors)
        environment = worker_environment(number, count, self.settings.device, num_gpus, os.cpu_count() or 1)
        if number == 0:  # it counts the GPUs, so it must see all; it uses the first
            environment.pop("CUDA_VISIBLE_DEVICES", None)
        self._supervisors.append(
            WorkerSupervisor(self.queue, self.settings, environment, (lambda _: None) if number else self._started)
        )
        self._supervisors[-1].start()

    def _started(self, about: dict[str, Any]) -> None:
        """Start the other workers when the first one has counted the GPUs."""
        self.about = {name: about[name] for name in ("device", "models")}
        self._on_ready(self.about)
        count = self.settings.num_workers or max(1, about["gpus"])
        while len(self._supervisors) < count and not self.queue.is_closed:
            self._add_supervisor(count, about["gpus"])

    def _delete_expired(self) -> None:
        while not self.queue.is_closed:
            for job in self.queue.remove_expired(SWEEP_S):
                job.delete_files()
