"""Files made of a ``PoseResult``: ``WRITERS`` by name, ``export`` for a whole folder. No model runs here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from app.export.json import write_json
from app.export.npz import write_npz
from app.pipeline import Clock, Progress, silent
from app.render import render_frames
from app.results import PoseResult
from app.video import VideoReader, write_video
from detectors.prefetch import prefetch

WRITERS: dict[str, Callable[[PoseResult, Path], None]] = {"json": write_json, "npz": write_npz}


def export(
    result: PoseResult, folder: Path, *, has_overlay: bool = True, progress: Progress = silent
) -> dict[str, Path]:
    """Write pose.json, pose.npz and overlay.mp4 into ``folder`` and return their paths by kind.

    A file gets its name when it is complete, never before; an older result with the same name is replaced then. Time
    spent is added to ``result.stage_seconds``.

    Raises:
        OSError: The folder cannot be written to, or the disk is full.
        ValueError: The video changed since it was analysed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    clock = Clock()
    written = {}
    if not has_overlay:
        (folder / "overlay.mp4").unlink(missing_ok=True)  # of an earlier run: it would not belong to the new numbers
    for kind, write in WRITERS.items():
        path = folder / f"pose.{kind}"
        with complete(path) as part:
            write(result, part)
        written[kind] = path
    clock.lap("export")
    if has_overlay:
        path = folder / "overlay.mp4"
        frames = prefetch(render_frames(VideoReader(result.video.path), result))
        with complete(path) as part:
            write_video(part, progress(frames, "overlay", result.video.num_frames), result.video)
        written["overlay"] = path
        clock.lap("overlay")
    result.stage_seconds.update(clock.seconds)
    return written


@contextmanager
def complete(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; it is renamed to ``path`` on success and removed on failure."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
