"""Many clips: those that are not done yet are analyzed, one by one or side by side, and recorded."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.batch.folder_names import assign_names, digest
from app.batch.output_folder import OutFolder
from app.batch.process_clip import ClipTask, Outcome, analyze, cache_key, models_of
from app.batch.progress_display import Display, display_path
from app.batch.summary import Records
from app.console import print_error, print_result, show_progress
from app.options import Options

if TYPE_CHECKING:
    from app.batch.dask_workers import Workers


@dataclass(frozen=True)
class BatchRequest:
    """What a user requests.

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
    """What a batch will do.

    Attributes:
        names: Name of the folder of every clip that was ever seen, by its path.
        to_do: Clips to be analyzed, with the reason.
        done: Records of clips that have results.
    """

    names: dict[str, str]
    to_do: dict[Path, str]
    done: list[dict[str, Any]]


class ThisProcess:
    """Analyzes clips one by one; ``app.batch.dask_workers.Workers`` has the same methods."""

    def models(self, options: Options) -> dict[str, Any]:
        """Load the models; see ``app.batch.process_clip.models_of``."""
        return models_of(options)

    def outcomes(self, tasks: list[ClipTask], display: Display) -> Iterator[Outcome]:
        """Yield the outcome of every task, as they end."""
        for task in tasks:
            display.start_clip(task.clip)
            yield analyze(task, display.show_stage)


def run_batch(request: BatchRequest, options: Options) -> int:
    """Analyze the clips that are not done yet, print the result of each, and return how many failed.

    Raises:
        FileNotFoundError: Weights are missing.
        RuntimeError: A model cannot run, there are no workers, nothing can be written, or another batch writes there.
        ValueError: There is no such model.
    """
    folder = OutFolder(request.out)
    with folder.locked() as lock, start_engine(request, options) as engine:
        models = engine.models(options)
        plan = make_plan(request.clips, folder, options, models)
        folder.save_names(plan.names)
        # Clips that a killed batch was analyzing come last: one of them may have been the cause.
        clips = sorted(plan.to_do, key=lambda clip: plan.names[str(clip)] in lock.interrupted)
        tasks = [ClipTask(clip, plan.names[str(clip)], folder.path, lock.token, options, models) for clip in clips]
        records = Records(folder.path)
        records.start(plan.done, {task.name for task in tasks})
        print_done(plan, folder, len(request.clips))
        failed = analyze_all(engine, tasks, records, folder)
    if len(request.clips) > 1:
        count = len(request.clips)
        earlier = f" ({len(plan.done)} of them earlier)" if plan.done else ""
        print_result(f"{count - failed} of {count} clips done{earlier}, {failed} failed")
    return failed


def print_plan(request: BatchRequest, options: Options) -> int:
    """Print what ``run_batch`` would do and return 0; nothing is analyzed or written.

    Raises:
        FileNotFoundError, RuntimeError, ValueError: As ``run_batch``, for the models of this machine.
    """
    folder = OutFolder(request.out)
    plan = make_plan(request.clips, folder, options, models_of(options))
    for clip, reason in plan.to_do.items():
        print_result(f"{display_path(clip)} -> {display_path(folder.path / plan.names[str(clip)])}: {reason}")
    print_result(f"{len(plan.to_do)} of {len(request.clips)} clips would be analyzed, {len(plan.done)} are done")
    return 0


def make_plan(clips: list[Path], folder: OutFolder, options: Options, models: dict[str, Any]) -> Plan:
    """Return which clips have to be analyzed and which are done, and the names of their folders."""
    names = assign_names(clips, folder)
    records = {clip: folder.record(names[str(clip)]) for clip in clips}
    to_do, done = {clip: "no results" for clip, record in records.items() if not record}, []
    finished = [(clip, record) for clip, record in records.items() if record]
    for clip, record in show_progress(finished, "compare", len(finished)) if finished else ():
        if reason := _why_again(digest(clip), record, options, models):
            to_do[clip] = reason
        else:
            done.append({**record, "clip": str(clip)})
    return Plan(names, {clip: to_do[clip] for clip in clips if clip in to_do}, done)


def analyze_all(engine: ThisProcess | Workers, tasks: list[ClipTask], records: Records, folder: OutFolder) -> int:
    """Run all tasks, print and record the outcome of each, and return how many failed."""
    failed = 0
    display = Display([task.clip for task in tasks], folder.path)
    try:
        with display:
            for outcome in engine.outcomes(tasks, display):
                failed += outcome.record["status"] != "done"
                with print_unwritten(records.path):
                    records.add(outcome.record)
                display.finish_clip(outcome.record, outcome.fault)
    finally:
        with print_unwritten(records.path):
            records.write_table()
    return failed


@contextmanager
def print_unwritten(path: Path) -> Iterator[None]:
    """Print what OSError was raised for the records in ``path``, batch.jsonl, or the table beside it."""
    try:
        yield
    except OSError as error:
        print_error(
            f"{display_path(path)} or summary.csv lacks a line ({error.strerror or error}); the next run adds it"
        )


@contextmanager
def start_engine(request: BatchRequest, options: Options) -> Iterator[ThisProcess | Workers]:
    """Start what analyzes the clips of a request.

    Raises:
        RuntimeError: dask is not installed, or no scheduler answers.
    """
    jobs = min(request.jobs, len(request.clips))
    if jobs == 1 and request.scheduler is None:
        yield ThisProcess()
        return
    if reason := why_not_dask():
        raise RuntimeError(reason)
    from app.batch.dask_workers import connect, start_local

    with connect(request.scheduler) if request.scheduler else start_local(jobs, options) as workers:
        yield workers


def why_not_dask() -> str | None:
    """Return why clips cannot be analyzed by other processes, None if they can."""
    if importlib.util.find_spec("distributed"):
        return None
    return "several processes need the package distributed: in the checkout, pip install -e '.[dist]'"


def print_done(plan: Plan, folder: OutFolder, count: int) -> None:
    """Print which clips are not analyzed again."""
    if count == 1:
        for record in plan.done:
            where = display_path(folder.path / record["folder"])
            print_result(
                f"{display_path(Path(record['clip']))} is done, in {where}; delete that folder to have it done again"
            )
    elif plan.done:
        print_result(f"{len(plan.done)} of {count} clips are done, same video, options and weights")


def _why_again(sha256: str, record: dict[str, Any], options: Options, models: dict[str, Any]) -> str | None:
    """Return why a clip with results has to be analyzed again, None if they would be the same."""
    if sha256 != record.get("video_sha256"):
        return "another video"
    return None if record.get("key") == cache_key(sha256, options, models) else "other options, weights or file format"
