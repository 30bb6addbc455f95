"""One clip of a batch, from its file to its folder of results; the same in this process and in workers."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.batch import file_lock
from app.batch.output_folder import STATE_FOLDER, publish, temporary_folder
from app.options import Options
from app.pose_schema import SCHEMA

if TYPE_CHECKING:
    from app.progress import Progress
    from app.results import PoseResult

log = logging.getLogger(__name__)
USER_ERRORS = (ValueError, OSError, RuntimeError)  # our own code raises them with a sentence for the user
# Options that do not change the numbers (but for rounding), and those that the hashes of weights stand for; quality
# only chooses weights and whether inputs are mirrored.
IMMATERIAL = ("device", "backend", "quality", "detector", "detector_weights", "lifter")


@dataclass(frozen=True)
class ClipTask:
    """What a worker needs to analyze a clip.

    Attributes:
        clip: Absolute path of the video.
        name: Folder of the results, in ``out``.
        out: Absolute path of the folder of all results.
        token: In the lock file of ``out``, for workers that see it.
        options: Settings.
        models: What ``models_of(options)`` must return on the worker.
    """

    clip: Path
    name: str
    out: Path
    token: str
    options: Options
    models: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """The result of a task.

    Attributes:
        record: Ready for JSON: ``status`` is "done" or "failed", with the reason in ``error``.
        fault: Traceback of a failure that is our own.
        files: Results by file name where the worker did not see ``ClipTask.out``.
    """

    record: dict[str, Any]
    fault: str = ""
    files: dict[str, bytes] = field(default_factory=dict)


def models_of(options: Options) -> dict[str, Any]:
    """Load the networks that ``options`` choose in this process; return their names and the hashes of their weights.

    Raises:
        FileNotFoundError: Weights are missing.
        ValueError: There is no such network.
        RuntimeError: A package, device or backend is missing.
    """
    from app.pipeline import cached_models

    lifter, detector = cached_models(options)
    weights = lifter.provenance["weights"]
    return {
        "detector": detector.provenance["detector"],
        "detector_weights": dict(detector.provenance["weights"]),
        "lifter": lifter.name,
        "lifter_weights": " ".join((weights["sha256"], *weights.get("parts", {}).values())),
    }


def cache_key(video_sha256: str, options: Options, models: dict[str, Any]) -> str:
    """Return a hash of video, options, weights and schema: results with the same key need not be made again."""
    settings = {name: value for name, value in asdict(options).items() if name not in IMMATERIAL}
    settings["use_flip"] = options.use_flip
    content = {"video": video_sha256, "options": settings, "models": models, "schema": SCHEMA}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def analyze(task: ClipTask, progress: Progress | None = None) -> Outcome:
    """Analyze a clip: its results are in their folder, complete, or nothing of them is anywhere."""
    began = time.perf_counter()
    fault = ""
    try:
        return _results(task, progress, began)
    except (*USER_ERRORS, MemoryError) as error:
        log.debug("clip failed", exc_info=True)
        text = _error_sentence(task, error)
    except Exception as error:  # noqa: BLE001 - a fault of ours in one clip must not stop the others
        text, fault = f"{task.clip}: {type(error).__name__}: {error}", traceback.format_exc()
    return Outcome(_record(task, status="failed", error=text, seconds=_since(began)), fault)


def failed(task: ClipTask, error: str) -> Outcome:
    """Return the outcome of a task whose worker cannot report it."""
    return Outcome(_record(task, status="failed", error=error))


def receive(outcome: Outcome, task: ClipTask) -> Outcome:
    """Return an outcome after the files that the worker sent, if any, were written to their folder."""
    if not outcome.files:
        return outcome
    try:
        with temporary_folder(task.out, task.name) as folder:
            for name, content in outcome.files.items():
                (folder / Path(name).name).write_bytes(content)
            return Outcome(publish(folder, outcome.record, task.out))
    except OSError as error:
        return failed(task, _error_sentence(task, error))


def _results(task: ClipTask, progress: Progress | None, began: float) -> Outcome:
    from app.export import export
    from app.pipeline import estimate
    from app.progress import silent

    if (models := models_of(task.options)) != task.models:
        raise RuntimeError(
            f"{task.clip} was given to {_worker()}, which has other models ({models}) than the batch began with "
            f"({task.models}); give all workers the same packages and weights"
        )
    is_shared = _sees_output(task)
    with temporary_folder(task.out, task.name) if is_shared else tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        before = _size_and_time(task.clip)
        result = estimate(task.clip, task.options, progress or silent)
        export(result, folder, progress=progress or silent)
        if _size_and_time(task.clip) != before:
            raise ValueError(f"{task.clip} changed while it was analyzed; run the command again when it is complete")
        record = _record(
            task,
            status="done",
            error=None,
            **summarize(result),
            seconds=_since(began),
            video_bytes=task.clip.stat().st_size,
            video_sha256=result.video_sha256,
            models=models,
            key=cache_key(result.video_sha256, task.options, models),
        )
        if not is_shared:
            return Outcome(record, files={path.name: path.read_bytes() for path in folder.iterdir()})
        if not _sees_output(task):
            raise RuntimeError(f"{task.clip}: its batch has ended; nothing was written")
        return Outcome(publish(folder, record, task.out))


def _record(task: ClipTask, **content: Any) -> dict[str, Any]:
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"clip": str(task.clip), "folder": task.name, **content, "worker": _worker(), "finished": now}


def summarize(result: PoseResult) -> dict[str, Any]:
    """Return a short summary of a result, as it is in clip.json."""
    video = result.video
    return {
        "people": len(result.tracks),
        "people_found": result.num_found,
        "frames": video.num_frames,
        "fps": video.fps,
        "duration_s": round(video.num_frames / video.fps, 3),
        "stage_seconds": {stage: round(seconds, 3) for stage, seconds in result.stage_seconds.items()},
        "quality": [quality.as_dict() for quality in result.quality],
        "warnings": list(video.warnings),
    }


def _error_sentence(task: ClipTask, error: Exception) -> str:
    """Return a sentence for the user; messages of the operating system are only a word or two."""
    if isinstance(error, OSError) and error.errno is not None:
        if error.filename is not None and Path(error.filename) == task.clip:
            return f"cannot read {task.clip}: {error.strerror}; check the file and who may read it"
        is_about_other = error.filename is not None and not Path(error.filename).is_relative_to(task.out)
        where = error.filename if is_about_other else f"its results go to {task.out}"
        return f"{task.clip} was not finished: {error.strerror}; {where}"
    # torch's messages begin so
    if isinstance(error, MemoryError) or str(error).startswith("CUDA out of") or "DefaultCPUAllocator" in str(error):
        return f"{task.clip} was not finished: memory ran out; try a shorter clip, a smaller picture or fewer people"
    return str(error)


def _size_and_time(clip: Path) -> tuple[int, int] | None:
    """Return size and time of change of a file, None if there is no such file."""
    try:
        status = clip.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _sees_output(task: ClipTask) -> bool:
    """Return whether this process sees the output folder, still locked by the batch of the task."""
    return file_lock.read_token(task.out / STATE_FOLDER / "lock") == task.token


def _worker() -> str:
    return f"{platform.node()}:{os.getpid()}"


def _since(began: float) -> float:
    return round(time.perf_counter() - began, 3)
