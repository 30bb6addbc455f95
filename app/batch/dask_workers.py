"""Clips on several processes, here or on other machines, with dask.distributed (extra ``dist``)."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import uuid
from collections import deque
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

import dask
from dask.system import CPU_COUNT
from distributed import Client, Future, KilledWorker, Nanny, Scheduler, SpecCluster, Worker, wait

from app.batch.process_clip import ClipTask, Outcome, analyze, failure, models_of, receive
from app.batch.progress_display import Display
from app.batch.worker_resources import share_of
from app.console import print_status
from app.options import Options

RETRIES = 3  # of a clip whose worker dies; what other schedulers do, too, unless their allowed-failures says otherwise
FIRST_WORKER_S = 120
POLL_S = 10  # how often workers that came or went are counted
# No pages on the web (the servers cannot be left out), no sampling of call stacks.
LOCAL = {
    "distributed.scheduler.http.routes": [], "distributed.worker.http.routes": [],
    "distributed.worker.profile.enabled": False,
}  # fmt: skip

log = logging.getLogger(__name__)
_clip = threading.Lock()  # held for the clip that is being analyzed in this process


class Workers:
    """Processes that analyze clips, each one clip at a time; models stay loaded.

    Attributes:
        address: Of the scheduler.
    """

    def __init__(self, client: Client, address: str) -> None:
        self.address = address
        self._client = client
        self._has_workers = True

    def models(self, options: Options) -> dict[str, Any]:
        """Return what ``options`` mean on a worker; see ``app.batch.process_clip.models_of``.

        Raises:
            RuntimeError: No worker comes, or all die of it; and what ``models_of`` raises.
        """
        try:
            self._client.wait_for_workers(1, timeout=FIRST_WORKER_S)
            return self._client.submit(models_of, options, pure=False).result()
        except asyncio.TimeoutError as error:
            raise RuntimeError(
                f"no worker came to {self.address} within {FIRST_WORKER_S} s; start some: dask worker {self.address} "
                "--nthreads 1"
            ) from error
        except KilledWorker as error:
            raise RuntimeError(f"workers die when they load the models: {error}") from error
        except CancelledError as error:
            raise self._gone() from error

    def outcomes(self, jobs: list[ClipTask], display: Display | None = None) -> Iterator[Outcome]:
        """Yield what became of every job, as they end; how far a worker is with its clip is not shown.

        No more are handed out than there are workers: dask suspects a clip that waits behind one that kills its worker
        as much as that one.

        Raises:
            RuntimeError: The scheduler is gone.
        """
        waiting, running = deque(jobs), dict[Future, ClipTask]()
        while waiting or running:
            idle = max(1, len(self._client.nthreads())) - len(running)
            for job in [waiting.popleft() for _ in range(min(idle, len(waiting)))]:
                running[self._client.submit(_analyze, job, key=f"clip-{uuid.uuid4().hex}", pure=False)] = job
            for future in self._ended(running):
                yield _outcome(future, running.pop(future))

    def _ended(self, running: dict[Future, ClipTask]) -> list[Future]:
        """Return the futures that have ended; none after some seconds, so that workers that came get work."""
        try:
            return list(wait(list(running), timeout=POLL_S, return_when="FIRST_COMPLETED").done)
        except asyncio.TimeoutError:
            has_workers = bool(self._client.nthreads())
            if self._has_workers and not has_workers:
                print_status(f"{self.address} has no workers now; waiting for some to come")
            self._has_workers = has_workers
            return []
        except CancelledError as error:
            raise self._gone() from error

    def _gone(self) -> RuntimeError:
        return RuntimeError(f"the scheduler {self.address} is gone; run the command again to go on where it stopped")


@contextmanager
def standing(address: str) -> Iterator[Workers]:
    """Use the workers of a scheduler that runs already.

    Raises:
        RuntimeError: None answers there.
    """
    _quiet()
    try:
        client = Client(address)
    except (OSError, ValueError) as error:
        raise RuntimeError(
            f"no scheduler answers at {address} ({error}); expected the address that dask scheduler prints, such as "
            "tcp://10.0.0.1:8786"
        ) from error
    with client:
        yield Workers(client, address)


@contextmanager
def local(count: int, options: Options) -> Iterator[Workers]:
    """Start ``count`` worker processes on this machine, on the loopback interface only.

    Each gets its share of cores and memory, and where there are several GPUs one of them.
    """
    workers = {
        number: {
            "cls": PromptNanny,
            "options": {
                "host": "127.0.0.1", "nthreads": 1, "memory_limit": 1 / count, "env": environment, "dashboard": False,
                "preload": [__name__], "silence_logs": logging.CRITICAL,
            },
        }
        for number, environment in enumerate(environments(count, options.device))
    }  # fmt: skip
    scheduler = {
        "cls": Scheduler,
        "options": {
            "host": "127.0.0.1", "port": 0, "dashboard": False, "dashboard_address": "127.0.0.1:0",
            "allowed_failures": RETRIES,
        },
    }  # fmt: skip
    _quiet()
    with dask.config.set(LOCAL), SpecCluster(workers, scheduler) as cluster, Client(cluster) as client:
        yield Workers(client, cluster.scheduler_address)


def environments(count: int, device: str, num_cores: int = CPU_COUNT) -> list[dict[str, str]]:
    """Return what environment variables ``count`` workers on this machine get; see ``share_of``."""
    num_gpus = _num_gpus()
    return [share_of(number, count, device, num_gpus, num_cores) for number in range(count)]


class PromptNanny(Nanny):
    """Does not wait seconds for a worker to end: when it is stopped, nobody wants the clip any more that it is at."""

    async def kill(self, timeout: float = 5, reason: str = "nanny-kill") -> None:
        """Stop the worker process."""
        if self.process is not None and self.process.process is not None:
            await self.process.process.kill()
        await super().kill(timeout, reason)


def dask_setup(worker: Worker) -> None:
    """Leave Ctrl-C, which the terminal sends to all processes, to the one that started this worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _analyze(job: ClipTask) -> Outcome:
    with _clip:  # a worker may have been started with several threads
        return analyze(job)


def _outcome(future: Future, job: ClipTask) -> Outcome:
    error = future.exception()
    if error is None:
        return receive(future.result(), job)
    if isinstance(error, KilledWorker):
        return failure(
            job,
            f"{job.clip}: {error.allowed_failures + 1} workers died while they were at it, the last one at "
            f"{error.last_worker.address}; out of memory, or a file that crashes a decoder: run it alone to see",
        )
    return failure(job, f"{job.clip}: {type(error).__name__}: {error}")


def _quiet() -> None:
    """Show dask's own log only with --verbose: workers that come, go or die are our business, and we say so."""
    if not log.isEnabledFor(logging.DEBUG):
        for name in ("distributed", "distributed.client", "distributed.gc"):  # dask gives them levels of their own
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _num_gpus() -> int:
    import torch

    return torch.cuda.device_count()
