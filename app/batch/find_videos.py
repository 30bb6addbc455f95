"""Finds the videos that a user names: files, and folders that are searched in order of names."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from app.batch.output_folder import is_results

# What files in the containers of app.video.reader are usually called. Others are found by name or by --glob.
VIDEO_SUFFIXES = {
    ".mp4", ".mov", ".m4v", ".3gp", ".3g2", ".mj2", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg",
    ".m2v", ".vob", ".flv", ".f4v", ".wmv", ".asf", ".ogv", ".gif", ".mxf", ".nut", ".ivf", ".dv", ".rm", ".rmvb",
    ".wtv", ".h264", ".264", ".h265", ".265", ".hevc",
}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        clips: Absolute paths without repeats, in order of inputs and names.
        problems: Sentences about inputs that gave no clip or could not be searched whole.
    """

    clips: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def discover(inputs: list[Path], out: Path, pattern: str | None = None) -> Found:
    """Return the clips among files and in folders.

    A folder is searched with all folders in it (links to folders are not followed) for names with a video's suffix.
    Hidden files, files in ``out`` and results of any other run, such as overlays, are no input. A named file is
    returned whether it exists or not: it is checked when it is analyzed.

    Args:
        inputs: Files and folders.
        out: Folder of results.
        pattern: Take files that match this instead, whatever the suffix: a glob for the name ("cam1_*.mov"), or, with a
            slash in it, for the path below the folder ("day1/*/front.*").
    """
    found = Found()
    for path in inputs:
        absolute = Path(os.path.abspath(path))  # noqa: PTH100 - "a/../b" is "b", links are kept
        if not os.path.isdir(path):  # noqa: PTH112 - False for what may not be looked at: its analysis says so
            found.clips.append(absolute)
        else:
            clips = [
                clip for clip in _files(absolute, out.resolve(), found.problems) if _is_wanted(clip, absolute, pattern)
            ]
            if not clips:
                wanted = f"matching {pattern}" if pattern else f"ending in {', '.join(sorted(VIDEO_SUFFIXES))}"
                found.problems.append(f"no video in {path}; expected files {wanted}, not results of earlier runs")
            found.clips.extend(clips)
    return Found(list(dict.fromkeys(found.clips)), found.problems)


def _files(root: Path, out: Path, problems: list[str]) -> Iterator[Path]:
    """Yield all files below ``root`` in order of paths, without hidden ones, results and those in ``out``."""

    def add_problem(error: OSError) -> None:
        problems.append(f"cannot search {error.filename} ({error.strerror}); its files were left out")

    for folder, folders, files in os.walk(root, onerror=add_problem):
        here = Path(folder)
        if is_results(here):
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith(".") and (here / name).resolve() != out)
        yield from (here / name for name in sorted(files) if not name.startswith(".") and _may_be_file(here / name))


def size_of(path: Path) -> int | None:
    """Return how many bytes a file has, None if there is none or it may not be looked at."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _may_be_file(path: Path) -> bool:
    """Return whether a path is a file, or may not be looked at: its analysis says so."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except PermissionError:
        return True
    except OSError:
        return False


def _is_wanted(file: Path, root: Path, pattern: str | None) -> bool:
    if pattern is None:
        return file.suffix.lower() in VIDEO_SUFFIXES
    below = file.relative_to(root).as_posix()
    return fnmatchcase((below if "/" in pattern else file.name).lower(), pattern.lower())
