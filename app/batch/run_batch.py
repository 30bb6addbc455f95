"""Many clips: what is done is left out, the others are analyzed one by one or side by side, and accounted for."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from app.batch.output_folder import OutFolder
from app.batch.process_clip import ClipTask, Outcome, analyze, cache_key, models_of
from app.batch.progress_display import Display, shown
from app.batch.summary import Records
from app.console import print_error, print_result, show_progress
from app.options import Options
from checkpoints import sha256_of


@dataclass(frozen=True)
class BatchRequest:
    """What a user asks for.

    Attributes:
        clips: Absolute paths of videos, without repeats.
        out: Folder of results.
        jobs: Worker processes on this machine; 1 is this process alone.
        scheduler: Address of a dask scheduler whose workers are used instead.
    """

    clips: list[Path]
    out: Path
    jobs: int = 1
    scheduler: str | None = None


@dataclass(frozen=True)
class Plan:
    """What will be done.

    Attributes:
        names: Folder of every clip that was ever seen, by its path.
        to_do: Clips in order of work, with the reason.
        done: Records of clips whose results are there.
    """

    names: dict[str, str]
    to_do: dict[Path, str]
    done: list[dict[str, Any]]


class Engine(Protocol):
    """What analyzes clips: this process, or the workers of ``app.batch.dask_workers``."""

    def models(self, options: Options) -> dict[str, Any]:
        """Return what ``options`` mean where clips are analyzed; see ``app.batch.process_clip.models_of``."""

    def outcomes(self, jobs: list[ClipTask], display: Display) -> Iterator[Outcome]:
        """Yield what became of every job, as they end."""


class ThisProcess:
    """Analyzes clips one by one."""

    def models(self, options: Options) -> dict[str, Any]:
        """See ``Engine``."""
        return models_of(options)

    def outcomes(self, jobs: list[ClipTask], display: Display) -> Iterator[Outcome]:
        """See ``Engine``."""
        for job in jobs:
            display.began(job.clip)
            yield analyze(job, display.stage)


def run_batch(request: BatchRequest, options: Options) -> int:
    """Analyze the clips that are not done yet, say what became of each, and return how many failed.

    Raises:
        FileNotFoundError: Weights are missing.
        RuntimeError: A model cannot run, there are no workers, nothing can be written, or another batch writes there.
        ValueError: There is no such model.
    """
    folder = OutFolder(request.out)
    with folder.locked() as hold, engine_for(request, options) as engine:
        models = engine.models(options)
        plan = make_plan(request.clips, folder, options, models)
        folder.save_names(plan.names)
        # Clips that a killed batch was at come last: should one of them be what killed it, the others are done.
        clips = sorted(plan.to_do, key=lambda clip: plan.names[str(clip)] in hold.interrupted)
        jobs = [ClipTask(clip, plan.names[str(clip)], folder.path, hold.token, options, models) for clip in clips]
        records = Records(folder.path)
        records.begin(plan.done, {job.name for job in jobs})
        say_done(plan, folder, len(request.clips))
        failed = work(engine, jobs, records, folder)
    if len(request.clips) > 1:
        count = len(request.clips)
        earlier = f" ({len(plan.done)} of them earlier)" if plan.done else ""
        print_result(f"{count - failed} of {count} clips done{earlier}, {failed} failed")
    return failed


def say_plan(request: BatchRequest, options: Options) -> int:
    """Say what ``run_batch`` would do and return 0: nothing failed, for nothing is tried or written.

    Raises:
        FileNotFoundError, RuntimeError, ValueError: As ``run_batch``, for the models of this machine.
    """
    folder = OutFolder(request.out)
    plan = make_plan(request.clips, folder, options, models_of(options))
    for clip, reason in plan.to_do.items():
        print_result(f"{shown(clip)} -> {shown(folder.path / plan.names[str(clip)])}: {reason}")
    print_result(f"{len(plan.to_do)} of {len(request.clips)} clips would be analyzed, {len(plan.done)} are done")
    return 0


def make_plan(clips: list[Path], folder: OutFolder, options: Options, models: dict[str, Any]) -> Plan:
    """Return which clips have to be analyzed and which need not, and where their results belong."""
    names = names_of(clips, folder)
    records = {clip: folder.record(names[str(clip)]) for clip in clips}
    to_do, done = {clip: "no results" for clip, record in records.items() if not record}, []
    seen = [(clip, record) for clip, record in records.items() if record]
    for clip, record in show_progress(seen, "compare", len(seen)) if seen else ():
        if reason := _why_again(_digest(clip), record, options, models):
            to_do[clip] = reason
        else:
            done.append({**record, "clip": str(clip)})
    return Plan(names, {clip: to_do[clip] for clip in clips if clip in to_do}, done)


def names_of(clips: list[Path], folder: OutFolder) -> dict[str, str]:
    """Return the folder of every clip ever seen, by its path; it stays the same whatever other clips come.

    A clip that has none takes over that of a clip that is gone and had the same content (it was moved), or gets a new
    one.
    """
    names = folder.names()
    gone = [clip for clip in names.keys() - set(map(str, clips)) if not Path(clip).exists()]
    left = {clip: record for clip in sorted(gone) if (record := folder.record(names[clip]))}
    for clip in clips:
        if str(clip) in names:
            continue
        before = next((old for old, record in left.items() if _is_content_of(clip, record)), None)
        if before is None:
            names[str(clip)] = folder.new_name(clip, names)
        else:
            names[str(clip)] = names.pop(before)
            del left[before]
    return names


def work(engine: Engine, jobs: list[ClipTask], records: Records, folder: OutFolder) -> int:
    """Have all jobs done, say and record what became of each, and return how many failed."""
    failed = 0
    display = Display([job.clip for job in jobs], folder.path)
    with display:
        for outcome in engine.outcomes(jobs, display):
            failed += outcome.record["status"] != "done"
            try:
                records.add(outcome.record)
            except OSError as error:
                print_error(f"{shown(records.path)} lacks a line ({error.strerror or error}); the next run adds it")
            display.ended(outcome.record, outcome.fault)
    return failed


@contextmanager
def engine_for(request: BatchRequest, options: Options) -> Iterator[Engine]:
    """Start what the request needs.

    Raises:
        RuntimeError: dask is not installed, or no scheduler answers.
    """
    jobs = min(request.jobs, len(request.clips))
    if jobs == 1 and request.scheduler is None:
        yield ThisProcess()
        return
    if reason := why_not_dask():
        raise RuntimeError(reason)
    from app.batch import dask_workers

    with (
        dask_workers.standing(request.scheduler) if request.scheduler else dask_workers.local(jobs, options) as workers
    ):
        yield workers


def why_not_dask() -> str | None:
    """Return why there can be no other processes, None if there can."""
    if importlib.util.find_spec("distributed"):
        return None
    return "several processes need the package distributed: in the checkout, pip install -e '.[dist]'"


def say_done(plan: Plan, folder: OutFolder, count: int) -> None:
    """Say which clips are left alone."""
    if count == 1:
        for record in plan.done:
            where = shown(folder.path / record["folder"])
            print_result(f"{shown(Path(record['clip']))} is done, in {where}; delete that folder to have it done again")
    elif plan.done:
        print_result(f"{len(plan.done)} of {count} clips are done, same video, options and weights")


def _why_again(digest: str, record: dict[str, Any], options: Options, models: dict[str, Any]) -> str | None:
    """Return why a clip has to be analyzed although it has results, None if they are what they would be."""
    if digest != record.get("video_sha256"):
        return "another video"
    return None if record.get("key") == cache_key(digest, options, models) else "other options or weights"


def _is_content_of(clip: Path, record: dict[str, Any]) -> bool:
    """Return whether ``clip`` holds the video that a record is of."""
    is_as_long = clip.is_file() and clip.stat().st_size == record.get("video_bytes")
    return is_as_long and _digest(clip) == record.get("video_sha256")


def _digest(clip: Path) -> str:
    """Return the SHA-256 of a video, nothing if it cannot be read."""
    try:
        return sha256_of(clip)
    except OSError:
        return ""
