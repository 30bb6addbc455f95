"""The process that analyzes the jobs of the web app one by one with models that stay loaded, and the handle on it.

Both send lines of JSON, never pickles: should a hostile video take over the worker, it must not reach the server. To
the worker: ``{"id", "clip", "out", "pictures", "name", "options", "source"}`` is a job, ``{"cancel": id}`` stops one.
From it: ``{"gpus", "device", "models"}`` when it has started; ``{"id", "stage", "done", "total"}`` while it works, then
``{"id", "record"}``, ``{"id", "error", "fault"}`` or ``{"id", "is_cancelled"}``. A worker ends when its server does.
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
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

from app.batch.output_folder import MARKER, OutFolder, publish, temporary_folder
from app.batch.process_clip import USER_ERRORS, ClipTask, Outcome, analyze, models_of, summarize
from app.options import Options
from app.pose_schema import read_pose_json
from app.web.job import Job
from checkpoints import atomic_write

ROOT = Path(__file__).resolve().parents[2]  # what holds the package app
REPORT_S = 0.2  # between two reports of progress
NEXT_STAGES = {"2D": "tracks", "3D": "export"}  # those that follow and report nothing themselves
OOM_SCORE = "600"  # of 1000: where memory runs out the system ends a worker rather than the server


class Worker:
    """A running worker process, as the server sees it.

    Attributes:
        messages: From the worker; the last one, None, when it has ended.
    """

    def __init__(self, environment: dict[str, str], device: str) -> None:
        self.messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "app.web.worker_process", device], cwd=ROOT, env={**os.environ, **environment},
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


def make_order(job: Job) -> dict[str, Any]:
    """Return the order to analyze ``job.clip``, or to rewrite the results of ``job.source``."""
    name, source = job.clip.stem, job.source
    return {
        "id": job.id, "clip": str(job.clip), "out": str(job.out), "pictures": str(job.pictures), "name": name,
        "options": asdict(job.options), "source": str(source.out / name) if source else None,
    }  # fmt: skip


def main() -> None:
    """Analyze jobs until the server closes standard input."""
    orders, answers = _redirect_standard_streams()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    jobs: queue.Queue[dict[str, Any]] = queue.Queue()
    cancelled: set[str] = set()
    threading.Thread(target=_listen, args=(orders, jobs, cancelled), daemon=True).start()
    answers.write(json.dumps(_load_models(sys.argv[1])) + "\n")
    while True:
        order = jobs.get()
        report = _Reporter(order["id"], answers, cancelled)
        try:
            end = _analyze(order, report)
        except Cancelled:
            end = {"is_cancelled": True}
        _release_memory()
        report.send(**end)


def _load_models(device: str) -> dict[str, Any]:
    """Load what most jobs need before the first one comes; return what the server is told."""
    import numpy as np
    import torch

    import app.export  # noqa: F401 - imports the rest of what a job needs
    from app.pipeline import cached_models, describe_models

    options = Options(device=device)
    about = {"gpus": torch.cuda.device_count(), "device": device}
    try:
        lifter, detector = cached_models(options)
        for _ in detector(iter([np.zeros((480, 640, 3), np.uint8)])):  # what is loaded with the first picture
            pass
    except USER_ERRORS as error:  # jobs may name other networks, and else say the same
        return {**about, "models": f"the usual networks cannot be loaded: {error}"}
    kind = lifter.device.type
    place = torch.cuda.get_device_name(lifter.device) if kind == "cuda" else f"{kind}, {os.cpu_count()} cores"
    return {**about, "device": place, "models": f"lifter {lifter.name}; {describe_models(options)}"}


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
        if stage in NEXT_STAGES:
            self.start_stage(NEXT_STAGES[stage])


def _analyze(order: dict[str, Any], report: _Reporter) -> dict[str, Any]:
    """Return the last message about a job; its results are in their folder, with a ZIP of all, or there are none."""
    report.start_stage("export" if order["source"] else "models")
    settings: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in order["options"].items()}
    options = Options(**settings)
    folder = OutFolder(Path(order["out"]))
    try:
        with folder.locked() as lock:
            models = {} if order["source"] else models_of(options)
            task = ClipTask(Path(order["clip"]), order["name"], folder.path, lock.token, options, models)
            outcome = _rewrite(task, Path(order["source"]), report) if order["source"] else analyze(task, report)
            if outcome.record["status"] != "done":
                return {"error": outcome.record["error"], "fault": outcome.fault}
            report.start_stage("files")
            results = folder.path / task.name
            _zip(results)
            return {"record": {**outcome.record, **_about_people(results, Path(order["pictures"]))}}
    except USER_ERRORS as error:
        return {"error": str(error), "fault": ""}


def _rewrite(task: ClipTask, source: Path, report: _Reporter) -> Outcome:
    """Write the results in ``source`` again for those whom ``task.options`` choose; no network runs."""
    from app.convert import edit
    from app.export import export
    from app.pose_reader import read_result
    from app.video.reader import probe

    began = time.perf_counter()
    stored = read_result(source)
    result = replace(stored, video=probe(task.clip, task.options), options=task.options)
    vars(result).update({name: getattr(stored, name) for name in ("video_sha256", "quality", "floors")})
    # What else the options ask for is in the numbers already.
    result = edit(result, replace(task.options, smooth_hz=None, has_rigid_bones=False, lock_feet=False))
    with temporary_folder(task.out, task.name) as part:
        export(result, part, formats=task.options.formats, has_overlay=task.options.has_overlay, progress=report)
        record = {"status": "done", **summarize(result), "seconds": round(time.perf_counter() - began, 3)}
        return Outcome(publish(part, record, task.out))


def _about_people(results: Path, pictures: Path) -> dict[str, Any]:
    """Return what the record lacks of what the page shows of people; write a picture of everybody."""
    from app.render.person_pictures import write_person_pictures

    document = read_pose_json(results / "pose.json")
    video, models = document["video"], document["models"]
    shown = write_person_pictures(document, results / "overlay.mp4", pictures)
    times_s = video.get("timestamps_s") or [frame / video["fps"] for frame in range(video["num_frames"])]
    tracks = [
        {"id": person["id"], "from_s": times_s[person["frames"][0]], "to_s": times_s[person["frames"][-1]],
         "has_picture": person["id"] in shown}
        for person in document["people"]
    ]  # fmt: skip
    size = {"width": video["width"], "height": video["height"]}
    return {"tracks": tracks, "made_by": f"lifter {models['lifter']}; {models['summary']}", **size}


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
