"""Frames per second of every stage by itself, next to the same stage done one frame at a time."""

from __future__ import annotations

import io
import itertools
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from app.bench.measure import machine, wall_clock
from app.options import Options
from app.pipeline import cached_lifter, choice_of, detector_of, lift_tracks, track_people
from app.render.overlay import render_frames
from app.results import Pose3D, PoseResult
from app.video.reader import VideoReader, probe
from app.video.video_info import VideoInfo
from app.video.writer import write_video
from detectors.people import People, Track
from detectors.tracking.frame_observer import FrameObserver
from lifter.lift import Sequence2D, predict, windows_of
from lifter.load import Lifter
from lifter.skeletons import H36M17

MOST_FRAMES = 120  # that are held in memory
FEW_FRAMES = 12  # for what takes a second each


def stage_table(clip: Path, options: Options) -> Table:
    """Return frames per second of each stage on the first frames of a clip, and of its one-frame-at-a-time twin.

    The twins are what demos of research code usually do: networks see one frame (or window) at a time, and a picture
    is a new matplotlib figure, saved as PNG and read again. Models are loaded and warm before anything is timed.

    Raises:
        RuntimeError: matplotlib is not installed.
    """
    _require_matplotlib()
    info = _first(probe(clip), MOST_FRAMES)
    lifter = cached_lifter(options.lifter, options.device, options.backend)
    detector: Any = detector_of(options, str(lifter.device))
    frames = list(itertools.islice(VideoReader(clip), info.num_frames))
    _drain(detector(frames[:FEW_FRAMES]))  # warm-up
    footage = FrameObserver()
    people: list[People] = []
    seconds = {"decode": wall_clock(lambda: _drain(itertools.islice(VideoReader(clip), info.num_frames)))}
    seconds["2D"] = wall_clock(lambda: people.extend(footage.note(detector(footage.watch(frames)))))
    tracks: list[Track] = []
    seconds["track"] = wall_clock(lambda: tracks.extend(track_people(people, footage, info, options)))
    lift_tracks(lifter, tracks, info, options)  # warm-up
    poses: list[Pose3D] = []
    seconds["3D"] = wall_clock(lambda: poses.extend(lift_tracks(lifter, tracks, info, options)))
    result = PoseResult(info, tracks, poses, options)
    pictures: list[np.ndarray] = []
    seconds["draw"] = wall_clock(lambda: pictures.extend(render_frames(frames, result)))
    with tempfile.TemporaryDirectory() as folder:
        seconds["encode"] = wall_clock(lambda: write_video(Path(folder) / "overlay.mp4", iter(pictures), info))
    single = {
        "2D": _per_frame(lambda frame: _drain(detector([frame])), frames)
        if hasattr(detector, "detection_interval")
        else None,
        "3D": _window_by_window(lifter, tracks, info, options),
        "draw": _per_frame(Figures(frames, result), range(len(frames))),
    }
    return _table(clip, info, seconds, single, f"{choice_of(options).about}, {options.lifter}")


def _table(clip: Path, info: VideoInfo, seconds: dict[str, float], single: dict[str, float | None], what: str) -> Table:
    title = f"{clip.name}, {info.num_frames} frames, {what}: stages by themselves; {machine()}"
    table = Table(title=title)
    for column in ("stage", "ms per frame", "frames/s", "one at a time: ms", "ratio"):
        table.add_column(column, justify="right")
    for stage, total in seconds.items():
        each, other = total / info.num_frames, single.get(stage)
        twin = ("-", "-") if other is None else (f"{1e3 * other:.1f}", f"{other / each:.1f}")
        table.add_row(stage, f"{1e3 * each:.2f}", f"{1 / each:.0f}", *twin)
    return table


def _first(info: VideoInfo, most: int) -> VideoInfo:
    """Return a video cut off after ``most`` frames."""
    count = min(info.num_frames, most)
    return VideoInfo(info.path, info.width, info.height, info.fps, count, info.rotation, info.timestamps_s[:count])


def _per_frame(work: Callable[[Any], object], items: Iterable[Any]) -> float:
    """Return the seconds that ``work`` takes per item, over the first few, the very first not counted."""
    some = list(itertools.islice(items, FEW_FRAMES))
    work(some[0])
    began = time.perf_counter()
    for item in some[1:]:
        work(item)
    return (time.perf_counter() - began) / max(1, len(some) - 1)


def _window_by_window(lifter: Lifter, tracks: list[Track], info: VideoInfo, options: Options) -> float:
    """Return the seconds per frame of the clip when every person's windows go through one at a time."""
    inputs = [
        windows_of(
            lifter,
            Sequence2D(track.keypoints, info.timestamps_s[track.frames], info.width, info.height, track.scores),
            options.fov_degrees,
        )[1]
        for track in tracks
    ]
    singles: list[torch.Tensor] = [window for windows in inputs for window in windows.split(1)]
    seconds = wall_clock(
        lambda: _drain(predict(lifter, window, options.use_flip, lambda batches, _: batches) for window in singles)
    )
    return seconds / info.num_frames


class Figures:
    """Draws a frame as demos do: a new figure with picture and 3D axes, saved as PNG and read again."""

    def __init__(self, frames: list[np.ndarray], result: PoseResult) -> None:
        self._frames, self._result = frames, result

    def __call__(self, index: int) -> np.ndarray:
        """Return the drawn frame (H, W, 4) float32."""
        import matplotlib as mpl

        mpl.use("agg")
        from matplotlib import pyplot

        figure = pyplot.figure(figsize=(11, 4.8), dpi=100)
        picture, space = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2, projection="3d")
        picture.imshow(self._frames[index])
        for track, pose in zip(self._result.tracks, self._result.poses, strict=True):
            t = index - int(track.frames[0])
            if 0 <= t < len(track.frames):
                picture.scatter(*track.keypoints[t].T)
                for child, parent in enumerate(H36M17.parents):
                    if child:
                        space.plot(*pose.joints[t][[parent, child]].T)
        file = io.BytesIO()
        figure.savefig(file, format="png")
        pyplot.close(figure)
        file.seek(0)
        return pyplot.imread(file)


def _require_matplotlib() -> None:
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise RuntimeError("drawing one frame at a time is timed with matplotlib, which is not installed: "
                           "in the checkout, pip install -e '.[report]'")  # fmt: skip


def _drain(items: Iterable[Any] | Iterator[Any]) -> None:
    for _ in items:
        pass
