"""Files made of a ``PoseResult``: ``WRITERS`` by name, ``export`` for a whole folder. No model runs here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.export.bvh import write_bvh
from app.export.coco import write_coco
from app.export.csv import write_csv
from app.export.glb import write_glb
from app.export.json import write_json
from app.export.npz import write_npz
from app.export.trc import write_trc
from app.options import Options
from app.progress import Clock, Progress, silent
from app.render.overlay import render_frames
from app.results import PoseResult
from app.video.reader import VideoReader
from app.video.writer import write_video
from app.viewer import write_viewer
from checkpoints import atomic_write
from detectors.prefetch import prefetch

DEFAULTS = Options()


@dataclass(frozen=True)
class Writer:
    """How one format is written.

    Attributes:
        write: (result, path, up=, is_upright=) to a file.
        suffix: Of the file's name.
        holds_one: The format holds one skeleton: every person gets a file, and ``write`` a result with one person.
        stem: Of the file's name.
    """

    write: Callable[..., None]
    suffix: str
    holds_one: bool = False
    stem: str = "pose"


WRITERS = {
    "json": Writer(write_json, "json"),
    "npz": Writer(write_npz, "npz"),
    "csv": Writer(write_csv, "csv"),
    "trc": Writer(write_trc, "trc", holds_one=True),
    "bvh": Writer(write_bvh, "bvh", holds_one=True),
    "glb": Writer(write_glb, "glb"),
    "coco": Writer(write_coco, "coco.json"),
    "viewer": Writer(write_viewer, "html", stem="viewer"),
}


def export(
    result: PoseResult,
    folder: Path,
    *,
    formats: Sequence[str] = DEFAULTS.formats,
    up: str = DEFAULTS.up,
    is_upright: bool = DEFAULTS.is_upright,
    has_overlay: bool = True,
    progress: Progress = silent,
) -> dict[str, Path]:
    """Write pose.<format>, viewer.html and overlay.mp4 into ``folder``; return their paths by kind ("bvh person 0").

    A file gets its name when it is complete, never before. Files of an earlier run that this one does not write are
    removed: they would not belong to the new numbers. Time spent is added to ``result.stage_seconds``.

    Args:
        result: Of ``app.pipeline.estimate``.
        folder: Made if it does not exist.
        formats: Names in ``WRITERS``.
        up: The axis that points up in files with world coordinates: y or z.
        is_upright: Whether world coordinates and the overlay's 3D panel are turned by the estimated gravity.
        has_overlay: Whether to write overlay.mp4.
        progress: Wraps the frames of the overlay.

    Raises:
        OSError: The folder cannot be written to, or the disk is full.
        ValueError: The video changed since it was analyzed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    clock = Clock()
    written = {}
    files = [file for name in formats for file in _files(result, name)]
    names = {name for _, name, _, _ in files} | ({"overlay.mp4"} if has_overlay else set())
    for stale in _written_before(folder):
        if stale.name not in names:
            stale.unlink()
    for kind, name, writer, part_of_result in files:
        with atomic_write(folder / name) as part:
            writer.write(part_of_result, part, up=up, is_upright=is_upright)
        written[kind] = folder / name
    clock.lap("export")
    if has_overlay:
        path = folder / "overlay.mp4"
        frames = prefetch(render_frames(VideoReader(result.video.path), result, is_upright=is_upright))
        with atomic_write(path) as part:
            write_video(part, progress(frames, "overlay", result.video.num_frames), result.video)
        written["overlay"] = path
        clock.lap("overlay")
    result.stage_seconds.update(clock.seconds)
    return written


def _files(result: PoseResult, name: str) -> Iterator[tuple[str, str, Writer, PoseResult]]:
    """Yield (kind, file name, writer, what it gets) of one format."""
    writer = WRITERS[name]
    if not writer.holds_one:
        yield name, f"{writer.stem}.{writer.suffix}", writer, result
        return
    for index, track in enumerate(result.tracks):
        person = f"person{track.person_id}"
        yield f"{name} {person}", f"{writer.stem}.{person}.{writer.suffix}", writer, result.only(index)


def _written_before(folder: Path) -> Iterator[Path]:
    """Yield files that an earlier run may have left."""
    for writer in WRITERS.values():
        person = ".person*" if writer.holds_one else ""
        yield from folder.glob(f"{writer.stem}{person}.{writer.suffix}")
    yield from folder.glob("overlay.mp4")
