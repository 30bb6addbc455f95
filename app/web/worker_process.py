"""The process that analyzes the jobs of the web app one by one, and the handle on it; models stay loaded in between.

Both speak lines of JSON, never pickles: what a hostile video makes of the worker must not spread to the server. To the
worker: ``{"id", "clip", "out", "name", "options"}`` is a job, ``{"cancel": id}`` stops one. From it: ``{"gpus"}`` once,
to begin with; ``{"id", "stage", "done", "total"}`` while it works, then ``{"id", "record"}``, ``{"id", "error",
"fault"}`` or ``{"id", "is_cancelled"}``. A worker whose server is gone ends.
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
FIRST_TO_GO = "600"  # of 1000: where memory runs out the system ends a worker rather than the server


class Worker:
    """A running worker process, as the server sees it.

    Attributes:
        messages: What it says; None, the last one, when it has ended.
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
        """Give it an order; if it has just ended, that is the last of its messages."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()

    def end(self) -> int:
        """End the process, and those it started, whatever they are at; return the exit code."""
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
        with self._process.stdout as lines, contextlib.suppress(ValueError):  # no JSON: nothing to be trusted any more
            for line in lines:
                self.messages.put(dict(json.loads(line)))
        self.messages.put(None)


class Cancelled(BaseException):
    """The job at hand is unwanted; no ``Exception``, so that nothing on the way takes it for a failure."""


def order_of(job_id: str, clip: Path, out: Path, name: str, options: Options) -> dict[str, Any]:
    """Return what makes a worker analyze ``clip`` into ``out/name``."""
    return {"id": job_id, "clip": str(clip), "out": str(out), "name": name, "options": asdict(options)}


def main() -> None:
    """Work until the server closes the door."""
    orders, answers = _take_standard_streams()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO)
    jobs: queue.Queue[dict[str, Any]] = queue.Queue()
    unwanted: set[str] = set()
    threading.Thread(target=_listen, args=(orders, jobs, unwanted), daemon=True).start()
    import torch

    import app.export  # noqa: F401 - with all that a job needs: the first one does not wait for it

    answers.write(json.dumps({"gpus": torch.cuda.device_count()}) + "\n")
    while True:
        order = jobs.get()
        report = _Report(order["id"], answers, unwanted)
        try:
            end = _analyzed(order, report)
        except Cancelled:
            end = {"is_cancelled": True}
        _return_memory()
        report.say(**end)


def _take_standard_streams() -> tuple[IO[str], IO[str]]:
    """Return what the server writes and reads; whatever else prints in this process goes to stderr from now on."""
    orders = os.fdopen(os.dup(0), "r", encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    with open(os.devnull) as nothing:  # noqa: PTH123 - a device
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return orders, answers


def _listen(orders: IO[str], jobs: queue.Queue[dict[str, Any]], unwanted: set[str]) -> None:
    for line in orders:
        order = json.loads(line)
        if "cancel" in order:
            unwanted.add(order["cancel"])
        else:
            jobs.put(order)
    os._exit(0)  # the server has closed the door, or is gone: nobody wants what this process is at


class _Report:
    """Tells the server about one job; as ``app.pipeline.Progress`` it raises Cancelled when the job is unwanted."""

    def __init__(self, job_id: str, answers: IO[str], unwanted: set[str]) -> None:
        self._id = job_id
        self._answers = answers
        self._unwanted = unwanted
        self._last = 0.0

    def say(self, **content: Any) -> None:
        self._answers.write(json.dumps({"id": self._id, **content}) + "\n")
        self._last = time.monotonic()

    def stage(self, name: str) -> None:
        """Say that a stage begins whose items are not counted."""
        self._check()
        self.say(stage=name, done=0, total=None)

    def __call__(self, items: Iterable[Any], stage: str, total: int | None) -> Iterator[Any]:
        self._check()
        self.say(stage=stage, done=0, total=total)
        done = 0
        for done, item in enumerate(items, 1):
            yield item
            self._check()
            if time.monotonic() - self._last > REPORT_S:
                self.say(stage=stage, done=done, total=total)
        self.say(stage=stage, done=done, total=total)

    def _check(self) -> None:
        if self._id in self._unwanted:
            raise Cancelled


def _analyzed(order: dict[str, Any], report: _Report) -> dict[str, Any]:
    """Return what became of a job; its results are in their folder, zipped, too, or there are none."""
    from app.batch.output_folder import OutFolder
    from app.batch.process_clip import USER_ERRORS, ClipTask, analyze, models_of

    report.stage("models")
    settings: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in order["options"].items()}
    options = Options(**settings)
    folder = OutFolder(Path(order["out"]))
    try:
        with folder.locked() as hold:
            models = models_of(options)
            job = ClipTask(Path(order["clip"]), order["name"], folder.path, hold.token, options, models)
            outcome = analyze(job, report)
            if outcome.record["status"] != "done":
                return {"error": outcome.record["error"], "fault": outcome.fault}
            report.stage("files")
            _zip(folder.path / job.name)
            return {"record": outcome.record}
    except USER_ERRORS as error:
        return {"error": str(error), "fault": ""}


def _return_memory() -> None:
    """Give freed memory back to the system; every clip's threads leave theirs where the next ones do not look."""
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # musl has none
            ctypes.CDLL(None).malloc_trim(0)


def _zip(folder: Path) -> None:
    """Put all results of a folder into ``<folder>/<its name>.zip``, without the record, which names places here."""
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
