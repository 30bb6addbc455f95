"""The unit of work of a batch: one clip from its file to its folder of results, the same in whatever process."""

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
from app.batch.output_folder import OURS, part_of, publish
from app.options import Options

if TYPE_CHECKING:
    from app.progress import Progress
    from app.results import PoseResult

log = logging.getLogger(__name__)
USER_ERRORS = (ValueError, OSError, RuntimeError)  # what our own code raises with a sentence for the user
# Options that do not change the numbers (but for rounding), and those that are known by the hashes of weights; of
# quality, these and whether inputs are mirrored are all there is.
IMMATERIAL = ("device", "backend", "quality", "detector", "detector_weights", "lifter")


@dataclass(frozen=True)
class ClipTask:
    """What a worker needs to know.

    Attributes:
        clip: Absolute path of the video.
        name: Folder of the results, in ``out``.
        out: Absolute path of the folder of all results.
        token: What ``out``'s lock file says, for those who see it.
        options: Settings.
        models: What ``models_of(options)`` must be there, too.
    """

    clip: Path
    name: str
    out: Path
    token: str
    options: Options
    models: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        record: Ready for JSON: ``status`` is "done" or "failed", then ``error`` says why.
        fault: Traceback if the failure was none that was foreseen.
        files: Results by file name where the worker did not see ``ClipTask.out``.
    """

    record: dict[str, Any]
    fault: str = ""
    files: dict[str, bytes] = field(default_factory=dict)


def models_of(options: Options) -> dict[str, Any]:
    """Return the networks that ``options`` mean in this process, loaded, with the hashes of their weights.

    Raises:
        FileNotFoundError: Weights are missing.
        ValueError: A name or file means none.
        RuntimeError: A package, device or backend that was asked for is not there.
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
    """Return what is the same for results that need not be made again: a hash of video, options and weights."""
    settings = {name: value for name, value in asdict(options).items() if name not in IMMATERIAL}
    settings["use_flip"] = options.use_flip
    content = {"video": video_sha256, "options": settings, "models": models}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def analyze(job: ClipTask, progress: Progress | None = None) -> Outcome:
    """Return what became of a clip: its results are in their folder, whole, or nothing of them is anywhere."""
    began = time.perf_counter()
    fault = ""
    try:
        return _results(job, progress, began)
    except (*USER_ERRORS, MemoryError) as error:
        log.debug("clip failed", exc_info=True)
        said = _said(job, error)
    except Exception as error:  # noqa: BLE001 - a fault of ours in one clip must not cost the clips behind it
        said, fault = f"{job.clip}: {type(error).__name__}: {error}", traceback.format_exc()
    return Outcome(_record(job, status="failed", error=said, seconds=_since(began)), fault)


def failure(job: ClipTask, error: str) -> Outcome:
    """Return that a job failed where it could not say so itself."""
    return Outcome(_record(job, status="failed", error=error))


def receive(outcome: Outcome, job: ClipTask) -> Outcome:
    """Return the outcome after results that a worker sent have been put into their folder."""
    if not outcome.files:
        return outcome
    try:
        with part_of(job.out, job.name) as folder:
            for name, content in outcome.files.items():
                (folder / Path(name).name).write_bytes(content)
            return Outcome(publish(folder, outcome.record, job.out))
    except OSError as error:
        return failure(job, _said(job, error))


def _results(job: ClipTask, progress: Progress | None, began: float) -> Outcome:
    from app.export import export
    from app.pipeline import estimate
    from app.progress import silent

    if (models := models_of(job.options)) != job.models:
        raise RuntimeError(
            f"{job.clip} was given to {_worker()}, which has other models ({models}) than the batch began with "
            f"({job.models}); give all workers the same packages and weights"
        )
    is_shared = _sees_out(job)
    with part_of(job.out, job.name) if is_shared else tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        before = _state(job.clip)
        result = estimate(job.clip, job.options, progress or silent)
        export(result, folder, progress=progress or silent)
        if _state(job.clip) != before:
            raise ValueError(f"{job.clip} changed while it was analyzed; run the command again when it is complete")
        record = _record(
            job,
            status="done",
            error=None,
            **_facts(result),
            seconds=_since(began),
            video_bytes=job.clip.stat().st_size,
            video_sha256=result.video_sha256,
            models=models,
            key=cache_key(result.video_sha256, job.options, models),
        )
        if not is_shared:
            return Outcome(record, files={path.name: path.read_bytes() for path in folder.iterdir()})
        if not _sees_out(job):
            raise RuntimeError(f"{job.clip}: its batch has ended meanwhile; nothing was written")
        return Outcome(publish(folder, record, job.out))


def _record(job: ClipTask, **content: Any) -> dict[str, Any]:
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"clip": str(job.clip), "folder": job.name, **content, "worker": _worker(), "finished": now}


def _facts(result: PoseResult) -> dict[str, Any]:
    """Return what a result says of itself, in short."""
    video = result.video
    return {
        "people": len(result.tracks),
        "frames": video.num_frames,
        "fps": video.fps,
        "duration_s": round(video.num_frames / video.fps, 3),
        "stage_seconds": {stage: round(seconds, 3) for stage, seconds in result.stage_seconds.items()},
        "quality": [quality.as_dict() for quality in result.quality],
        "warnings": list(video.warnings),
    }


def _said(job: ClipTask, error: Exception) -> str:
    """Return a sentence for the user; what the operating system says is a word or two."""
    if isinstance(error, OSError) and error.errno is not None:
        return f"{job.clip} was not finished: {error.strerror}; its results go to {job.out}"
    # torch's words, before a page of figures
    if isinstance(error, MemoryError) or str(error).startswith("CUDA out of") or "DefaultCPUAllocator" in str(error):
        return f"{job.clip} was not finished: memory ran out; try a shorter clip, a smaller picture or fewer people"
    return str(error)


def _state(clip: Path) -> tuple[int, int] | None:
    """Return what changes with a file's content, None if there is no such file."""
    try:
        status = clip.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _sees_out(job: ClipTask) -> bool:
    """Return whether this process sees the batch's output folder, and the batch still holds it."""
    return file_lock.token_in(job.out / OURS / "lock") == job.token


def _worker() -> str:
    return f"{platform.node()}:{os.getpid()}"


def _since(began: float) -> float:
    return round(time.perf_counter() - began, 3)
