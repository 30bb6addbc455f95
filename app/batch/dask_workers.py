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

from app.batch.process_clip import ClipTask, Outcome, analyze, failed, models_of, receive
from app.batch.progress_display import Display
from app.batch.worker_resources import worker_environment
from app.console import print_status
from app.options import Options

RETRIES = 3  # of a clip whose worker dies; the default of allowed-failures of other schedulers
FIRST_WORKER_S = 120
POLL_S = 10  # how often workers are counted
# No pages on the web (the servers cannot be left out), no sampling of call stacks.
LOCAL = {
    "distributed.scheduler.http.routes": [], "distributed.worker.http.routes": [],
    "distributed.worker.profile.enabled": False,
}  # fmt: skip

log = logging.getLogger(__name__)
_one_clip = threading.Lock()  # one clip at a time is analyzed in this process


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
        """Load the models on a worker; see ``app.batch.process_clip.models_of``.

        Raises:
            RuntimeError: There is no worker, or all die while loading; and what ``models_of`` raises.
        """
        try:
            self._client.wait_for_workers(1, timeout=FIRST_WORKER_S)
            return self._client.submit(models_of, options, pure=False).result()
        except asyncio.TimeoutError as error:
            raise RuntimeError(
                f"no worker connected to {self.address} within {FIRST_WORKER_S} s; start some: "
                f"dask worker {self.address} --nthreads 1"
            ) from error
        except KilledWorker as error:
            raise RuntimeError(f"workers die when they load the models: {error}") from error
        except CancelledError as error:
            raise self._scheduler_lost() from error

    def outcomes(self, tasks: list[ClipTask], display: Display | None = None) -> Iterator[Outcome]:
        """Yield the outcome of every task, as they end; progress within a clip is not shown.

        No more tasks are submitted than there are workers: where a clip kills its worker, dask also blames the clips
        that wait behind it.

        Raises:
            RuntimeError: The scheduler is gone.
        """
        waiting, running = deque(tasks), dict[Future, ClipTask]()
        while waiting or running:
            idle = max(1, len(self._client.nthreads())) - len(running)
            for task in [waiting.popleft() for _ in range(min(idle, len(waiting)))]:
                running[self._client.submit(_analyze, task, key=f"clip-{uuid.uuid4().hex}", pure=False)] = task
            for future in self._next_ended(running):
                yield _outcome(future, running.pop(future))

    def _next_ended(self, running: dict[Future, ClipTask]) -> list[Future]:
        """Return futures that have ended; after some seconds none, so that new workers get tasks."""
        try:
            return list(wait(list(running), timeout=POLL_S, return_when="FIRST_COMPLETED").done)
        except asyncio.TimeoutError:
            has_workers = bool(self._client.nthreads())
            if self._has_workers and not has_workers:
                print_status(f"{self.address} has no workers now; waiting for some to connect")
            self._has_workers = has_workers
            return []
        except CancelledError as error:
            raise self._scheduler_lost() from error

    def _scheduler_lost(self) -> RuntimeError:
        return RuntimeError(f"the scheduler {self.address} is gone; run the command again to go on where it stopped")


@contextmanager
def connect(address: str) -> Iterator[Workers]:
    """Use the workers of a scheduler that is running.

    Raises:
        RuntimeError: None answers there.
    """
    _silence_dask()
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
def start_local(count: int, options: Options) -> Iterator[Workers]:
    """Start ``count`` worker processes on this machine, on the loopback interface only.

    Each gets its share of cores and memory, and one of the GPUs if there are several.
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
    _silence_dask()
    with dask.config.set(LOCAL), SpecCluster(workers, scheduler) as cluster, Client(cluster) as client:
        yield Workers(client, cluster.scheduler_address)


def environments(count: int, device: str, num_cores: int = CPU_COUNT) -> list[dict[str, str]]:
    """Return the environment variables of ``count`` workers on this machine; see ``worker_environment``."""
    num_gpus = _num_gpus()
    return [worker_environment(number, count, device, num_gpus, num_cores) for number in range(count)]


class PromptNanny(Nanny):
    """Kills its worker at once when it is stopped: the clip that is being analyzed is not needed any more."""

    async def kill(self, timeout: float = 5, reason: str = "nanny-kill") -> None:
        """Stop the worker process."""
        if self.process is not None and self.process.process is not None:
            await self.process.process.kill()
        await super().kill(timeout, reason)


def dask_setup(worker: Worker) -> None:
    """Ignore Ctrl-C, which the terminal sends to all processes: the one that started this worker handles it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _analyze(task: ClipTask) -> Outcome:
    with _one_clip:  # a worker may have been started with several threads
        return analyze(task)


def _outcome(future: Future, task: ClipTask) -> Outcome:
    error = future.exception()
    if error is None:
        return receive(future.result(), task)
    if isinstance(error, KilledWorker):
        return failed(
            task,
            f"{task.clip}: {error.allowed_failures + 1} workers died while they analyzed it, the last one at "
            f"{error.last_worker.address}; out of memory, or a file that crashes a decoder: run it alone to see",
        )
    return failed(task, f"{task.clip}: {type(error).__name__}: {error}")


def _silence_dask() -> None:
    """Show dask's own log only with --verbose: what users need of it we report ourselves."""
    if not log.isEnabledFor(logging.DEBUG):
        for name in ("distributed", "distributed.client", "distributed.gc"):  # dask gives them levels of their own
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _num_gpus() -> int:
    import torch

    return torch.cuda.device_count()
