"""The process that analyzes the jobs of the web app one by one with models that stay loaded, and the handle on it.

Both send lines of JSON, never pickles: should a hostile video take over the worker, it must not reach the server. To
the worker: ``{"id", "clip", "out", "name", "options"}`` is a job, ``{"cancel": id}`` stops one. From it: ``{"gpus"}``
when it has started; ``{"id", "stage", "done", "total"}`` while it works, then ``{"id", "record"}``, ``{"id", "error",
"fault"}`` or ``{"id", "is_cancelled"}``. A worker ends when its server does.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from app.batch.output_folder import MARKER
from app.options import Options
from checkpoints import atomic_write

ROOT = Path(__file__).resolve().parents[2]  # what holds the package app
REPORT_S = 0.2  # between two reports of progress
OOM_SCORE = "600"  # of 1000: where memory runs out the system ends a worker rather than the server


class Worker:
    """A running worker process, as the server sees it.

    Attributes:
        messages: From the worker; the last one, None, when it has ended.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self.messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "app.web.worker_process"], cwd=ROOT, env={**os.environ, **environment},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self.pid = self._process.pid
        threading.Thread(target=self._listen, name=f"worker {self.pid}", daemon=True).start()

    @property
    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def send(self, order: dict[str, Any]) -> None:
        """Send an order; a worker that has just ended puts None into ``messages``."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()

    def end(self) -> int:
        """Kill the process and those it started; return the exit code."""
        if self._process.poll() is None:
            if sys.platform == "win32":
                self._process.kill()
            else:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
        code = self._process.wait()
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        return code

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines, contextlib.suppress(ValueError):  # no JSON: do not trust it any more
            for line in lines:
                self.messages.put(dict(json.loads(line)))
        self.messages.put(None)


class Cancelled(BaseException):
    """The job was cancelled; no ``Exception``, so that nothing on the way handles it as a failure."""


def make_order(job_id: str, clip: Path, out: Path, name: str, options: Options) -> dict[str, Any]:
    """Return the order to analyze ``clip`` into ``out/name``."""
    return {"id": job_id, "clip": str(clip), "out": str(out), "name": name, "options": asdict(options)}


def main() -> None:
    """Analyze jobs until the server closes standard input."""
    orders, answers = _redirect_standard_streams()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    jobs: queue.Queue[dict[str, Any]] = queue.Queue()
    cancelled: set[str] = set()
    threading.Thread(target=_listen, args=(orders, jobs, cancelled), daemon=True).start()
    import torch

    import app.export  # noqa: F401 - imports all that a job needs before the first one comes

    answers.write(json.dumps({"gpus": torch.cuda.device_count()}) + "\n")
    while True:
        order = jobs.get()
        report = _Reporter(order["id"], answers, cancelled)
        try:
            end = _analyze(order, report)
        except Cancelled:
            end = {"is_cancelled": True}
        _release_memory()
        report.send(**end)


def _redirect_standard_streams() -> tuple[IO[str], IO[str]]:
    """Return the streams from and to the server; other output of this process goes to stderr from now on."""
    orders = os.fdopen(os.dup(0), "r", encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    with open(os.devnull) as nothing:  # noqa: PTH123 - a device
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return orders, answers


def _listen(orders: IO[str], jobs: queue.Queue[dict[str, Any]], cancelled: set[str]) -> None:
    for line in orders:
        order = json.loads(line)
        if "cancel" in order:
            cancelled.add(order["cancel"])
        else:
            jobs.put(order)
    os._exit(0)  # the server has closed the stream or has ended


class _Reporter:
    """Reports one job to the server; as ``app.progress.Progress`` it raises Cancelled when the job is cancelled."""

    def __init__(self, job_id: str, answers: IO[str], cancelled: set[str]) -> None:
        self._id = job_id
        self._answers = answers
        self._cancelled = cancelled
        self._last = 0.0

    def send(self, **content: Any) -> None:
        self._answers.write(json.dumps({"id": self._id, **content}) + "\n")
        self._last = time.monotonic()

    def start_stage(self, name: str, total: int | None = None) -> None:
        if self._id in self._cancelled:
            raise Cancelled
        self.send(stage=name, done=0, total=total)

    def __call__(self, items: Iterable[Any], stage: str, total: int | None) -> Iterator[Any]:
        self.start_stage(stage, total)
        done = 0
        for done, item in enumerate(items, 1):
            yield item
            if self._id in self._cancelled:
                raise Cancelled
            if time.monotonic() - self._last > REPORT_S:
                self.send(stage=stage, done=done, total=total)
        self.send(stage=stage, done=done, total=total)


def _analyze(order: dict[str, Any], report: _Reporter) -> dict[str, Any]:
    """Return the last message about a job; its results are in their folder, with a ZIP of all, or there are none."""
    from app.batch.output_folder import OutFolder
    from app.batch.process_clip import USER_ERRORS, ClipTask, analyze, models_of

    report.start_stage("models")
    settings: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in order["options"].items()}
    options = Options(**settings)
    folder = OutFolder(Path(order["out"]))
    try:
        with folder.locked() as lock:
            models = models_of(options)
            job = ClipTask(Path(order["clip"]), order["name"], folder.path, lock.token, options, models)
            outcome = analyze(job, report)
            if outcome.record["status"] != "done":
                return {"error": outcome.record["error"], "fault": outcome.fault}
            report.start_stage("files")
            _zip(folder.path / job.name)
            return {"record": outcome.record}
    except USER_ERRORS as error:
        return {"error": str(error), "fault": ""}


def _release_memory() -> None:
    """Give freed memory back to the system; each clip's threads leave theirs in arenas of their own."""
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # musl has none
            ctypes.CDLL(None).malloc_trim(0)


def _zip(folder: Path) -> None:
    """Put all results of a folder into ``<folder>/<its name>.zip``, without the record, which holds paths."""
    files = [path for path in sorted(folder.iterdir()) if path.name != MARKER]
    with (
        atomic_write(folder / f"{folder.name}.zip") as part,
        zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for file in files:
            kind = zipfile.ZIP_STORED if file.suffix == ".mp4" else zipfile.ZIP_DEFLATED
            archive.write(file, f"{folder.name}/{file.name}", kind)


if __name__ == "__main__":
    main()
