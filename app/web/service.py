"""The job service behind the web app: uploads become jobs in a queue, workers analyze them, results are kept a while.

It serves no pages: whoever builds a page or an API calls ``Service`` from as many threads as they like.
"""

from __future__ import annotations

import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

from app.batch.worker_resources import worker_environment
from app.options import Options, ServerOptions
from app.web.job import Job
from app.web.job_folders import JobFolders, copy_upload
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

    Attributes:
        queue: All jobs; pages ask it for their status and files, and cancel them there.

    Raises:
        OSError: Nothing can be written to ``root``.
    """

    def __init__(self, settings: ServerOptions = DEFAULTS, root: Path | None = None) -> None:
        self.settings = settings
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

    def submit(self, upload: Path | str, options: Options = Options()) -> str:
        """Return the id of a new job that will analyze a copy of ``upload``; the original may be deleted at once.

        Takes a second: the file is probed first.

        Args:
            upload: The file.
            options: Settings; ``device`` is replaced by the server's.

        Raises:
            ValueError: No such video, or one beyond the limits, or options that name files of the server.
            RuntimeError: The queue is full, or the server cannot store the file or is stopping.
        """
        offered = {*LIFTERS, *downloads(), *self.settings.weights}
        for weights in (options.lifter, *options.detector_weights):
            if weights not in offered:
                raise ValueError(f"unknown weights {weights!r}; choose from {', '.join(LIFTERS)}")
        return self.queue.add(lambda: self._prepare(Path(upload), options)).id

    def close(self) -> None:
        """End all workers and delete all jobs; no process and no folder is left."""
        self.queue.close()
        for supervisor in self._supervisors:  # the first one may still add others until it is joined
            supervisor.join()
        self._cleaner.join()
        self._folders.close()

    @property
    def worker_pids(self) -> list[int]:
        """Ids of the worker processes that are running."""
        return [each.pid for each in self._supervisors if each.pid is not None]

    def _prepare(self, upload: Path, options: Options) -> Job:
        folder = None
        try:
            folder = self._folders.new_folder()
            clip = copy_upload(upload, folder, self.settings.limits.max_bytes)
            with self._probes:  # no more at once than cores: each has its time limit
                num_frames = probe_upload(clip, self.settings.limits, (options.start_s, options.stop_s)).num_frames
        except BaseException as error:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError):
                text = f"the server cannot store {upload.name} ({error.strerror}); try again later"
                raise RuntimeError(text) from error
            raise
        return Job(folder.name, clip.name, folder, clip, replace(options, device=self.settings.device), num_frames)

    def _add_supervisor(self, count: int, num_gpus: int) -> None:
        number = len(self._supervisors)
        environment = worker_environment(number, count, self.settings.device, num_gpus, os.cpu_count() or 1)
        if number == 0:  # it counts the GPUs, so it must see all; it uses the first
            environment.pop("CUDA_VISIBLE_DEVICES", None)
        self._supervisors.append(
            WorkerSupervisor(self.queue, self.settings, environment, None if number else self._add_supervisors)
        )
        self._supervisors[-1].start()

    def _add_supervisors(self, num_gpus: int) -> None:
        """Start the other workers when the first one has counted the GPUs."""
        count = self.settings.num_workers or max(1, num_gpus)
        while len(self._supervisors) < count and not self.queue.is_closed:
            self._add_supervisor(count, num_gpus)

    def _delete_expired(self) -> None:
        while not self.queue.is_closed:
            for job in self.queue.remove_expired(SWEEP_S):
                job.delete_files()
