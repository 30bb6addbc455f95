"""Files made of a ``PoseResult``: ``WRITERS`` by name, ``export`` for a whole folder. No model runs here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from app.export.character.bvh import write_bvh
from app.export.character.glb import write_glb
from app.export.coco import write_coco
from app.export.csv import write_csv
from app.export.json import write_json
from app.export.npz import write_npz
from app.export.trc import write_trc
from app.progress import Clock, Progress, silent
from app.render.overlay import render_frames
from app.results import PoseResult
from app.video.reader import VideoReader
from app.video.writer import write_video
from app.viewer import write_viewer
from checkpoints import atomic_write
from detectors.prefetch import prefetch


@dataclass(frozen=True)
class Writer:
    """How one format is written.

    Attributes:
        write: (result, path) to a file.
        suffix: Of the file's name.
        holds_one: The format holds one skeleton: every person gets a file, and ``write`` their index, too.
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
    formats: Sequence[str] | None = None,
    has_overlay: bool | None = None,
    progress: Progress = silent,
) -> dict[str, Path]:
    """Write pose.<format>, viewer.html and overlay.mp4 into ``folder``; return their paths by kind ("bvh person0").

    A file gets its name when it is complete, never before. Files of an earlier run that this one does not write are
    removed: they would not belong to the new numbers. Time spent is added to ``result.stage_seconds``.

    Args:
        result: Of ``app.pipeline.estimate``; world axes are those of its options.
        folder: Made if it does not exist.
        formats: Names in ``WRITERS``; None for those of the result's options.
        has_overlay: Whether to write overlay.mp4; None for what the result's options say.
        progress: Wraps the frames of the overlay.

    Raises:
        OSError: The folder cannot be written to, or the disk is full.
        ValueError: The video changed since it was analyzed.
    """
    formats = result.options.formats if formats is None else formats
    has_overlay = result.options.has_overlay if has_overlay is None else has_overlay
    folder.mkdir(parents=True, exist_ok=True)
    clock = Clock()
    written = {kind: folder / name for format_name in formats for kind, name, _ in _files(result, format_name)}
    if has_overlay:
        written["overlay"] = folder / "overlay.mp4"
    for stale in set(_written_before(folder)) - set(written.values()):
        stale.unlink()
    write_formats(result, folder, formats)
    clock.lap("export")
    if has_overlay:
        frames = prefetch(render_frames(VideoReader(result.video.path, result.options), result))
        with atomic_write(written["overlay"]) as part:
            write_video(part, progress(frames, "overlay", result.video.num_frames), result.video, has_sound=True)
        clock.lap("overlay")
    result.stage_seconds.update(clock.seconds)
    return written


def write_formats(result: PoseResult, folder: Path, formats: Sequence[str]) -> dict[str, Path]:
    """Write pose.<format> into a folder, and leave what else is in it; return the paths by kind.

    Raises:
        OSError: The folder cannot be written to, or the disk is full.
    """
    written = {}
    for kind, name, write in (file for format_name in formats for file in _files(result, format_name)):
        written[kind] = folder / name
        with atomic_write(written[kind]) as part:
            write(part)
    return written


def _files(result: PoseResult, name: str) -> Iterator[tuple[str, str, Callable[[Path], None]]]:
    """Yield (kind, file name, what writes it) of one format."""
    writer = WRITERS[name]
    if not writer.holds_one:
        yield name, f"{writer.stem}.{writer.suffix}", partial(writer.write, result)
        return
    for index, track in enumerate(result.tracks):
        person = f"person{track.person_id}"
        write = partial(writer.write, result, index=index)
        yield f"{name} {person}", f"{writer.stem}.{person}.{writer.suffix}", write


def _written_before(folder: Path) -> Iterator[Path]:
    """Yield files that an earlier run may have left."""
    for writer in WRITERS.values():
        person = ".person*" if writer.holds_one else ""
        yield from folder.glob(f"{writer.stem}{person}.{writer.suffix}")
    yield from folder.glob("overlay.mp4")
