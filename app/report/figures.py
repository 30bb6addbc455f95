"""``figures_of``: the pictures of a report, each made once for page and poster."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from app.report.charts import CURVES, INK, LEFT, QUIET, RIGHT, STYLE, draw_angles, draw_paths, draw_pose, draw_timeline
from app.report.key_poses import key_frames, key_pictures
from app.results import PoseResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH_IN, DPI = 11.0, 130
MOST_PEOPLE = 3  # whose angles are drawn: those seen longest

_made: weakref.WeakKeyDictionary[PoseResult, Figures] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Figures:
    """Pictures, (H, W, 3) uint8 RGB of one width; None where there is nothing to show.

    Attributes:
        poses: Contact sheet of key poses: picture, 3D from the front, 3D from the side; None without the video, too.
        overview: Who is seen when, and ways from above.
        angles: Curves by index of the person.
    """

    poses: np.ndarray | None = None
    overview: np.ndarray | None = None
    angles: dict[int, np.ndarray] = field(default_factory=dict)


def figures_of(result: PoseResult) -> Figures:
    """Return the figures of a result; made again only for another one.

    Raises:
        ValueError: The video changed since it was analyzed.
    """
    if result not in _made:
        _made[result] = _make(result)
    return _made[result]


def longest_seen(result: PoseResult) -> list[int]:
    """Return indices of the people seen longest, at most ``MOST_PEOPLE``, in the order of the result."""
    seen = sorted(range(len(result.tracks)), key=lambda i: -int(result.tracks[i].observed.sum()))
    return sorted(seen[:MOST_PEOPLE])


def _make(result: PoseResult) -> Figures:
    import matplotlib as mpl

    if not result.tracks:
        return Figures()
    with mpl.rc_context(STYLE):
        return Figures(_poses(result), _overview(result), {i: _angles(result, i) for i in longest_seen(result)})


def _poses(result: PoseResult) -> np.ndarray | None:
    frames = key_frames(result)
    if not frames or not result.video.path.is_file():  # of a pose.json only the name of the video is known
        return None
    pictures = key_pictures(result, frames)
    shape = pictures[0].shape
    cell = WIDTH_IN / len(frames)
    tall = float(np.clip(cell * shape[0] / shape[1], 0.5 * cell, 2.2 * cell))
    figure = _figure(tall + 2 * 1.5 + 0.45)
    axes = figure.subplots(3, len(frames), squeeze=False, height_ratios=(tall, 1.5, 1.5))
    for column, (frame, picture) in enumerate(zip(frames, pictures, strict=True)):
        axes[0, column].imshow(picture, interpolation="antialiased")
        axes[0, column].axis("off")
        axes[0, column].set_title(f"{result.video.timestamps_s[frame]:.1f} s", loc="left", color=QUIET, fontsize=8.5)
        for row, view in ((1, "front"), (2, "side")):
            draw_pose(axes[row, column], result, frame, view)
            if column == 0:
                axes[row, 0].text(
                    -0.02, 0.98, view, transform=axes[row, 0].transAxes, color=QUIET, fontsize=8, va="top"
                )
    _share_limits(axes[1:])
    return _pixels(figure)


def _share_limits(axes: np.ndarray) -> None:
    """Give all poses one scale, each around its own middle, feet on one line."""
    boxes = [each.dataLim for each in axes.ravel()]
    width = 1.1 * max((box.width for box in boxes if np.isfinite(box.width)), default=1.0)
    low = min((box.y0 for box in boxes if np.isfinite(box.y0)), default=0.0)
    high = max((box.y1 for box in boxes if np.isfinite(box.y1)), default=1.0)
    for each, box in zip(axes.ravel(), boxes, strict=True):
        middle = (box.x0 + box.x1) / 2 if np.isfinite(box.x0) else 0.0
        each.set_xlim(middle - width / 2, middle + width / 2)
        each.set_ylim(low - 0.05, high + 0.05)


def _overview(result: PoseResult) -> np.ndarray:
    has_paths = all(pose.root is not None for pose in result.poses)
    figure = _figure(max(2.6, 0.6 + 0.34 * len(result.tracks)))
    if has_paths:
        left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
        draw_paths(right, result)
    else:
        left = figure.subplots(1, 1)
    draw_timeline(left, result)
    return _pixels(figure)


def _angles(result: PoseResult, index: int) -> np.ndarray:
    figure = _figure(3.9)
    axes = figure.subplots(2, len(CURVES) // 2, sharex=True)
    draw_angles(axes.ravel(), result, index)
    figure.suptitle(f"Angles of person {result.tracks[index].person_id}", x=0.01, ha="left", fontsize=10.5, color=INK,
                    fontweight="bold")  # fmt: skip
    for x, text, color in ((0.78, "left", LEFT), (0.83, "right", RIGHT), (0.99, "tinted: no number", QUIET)):
        figure.text(x, 0.985, text, color=color, ha="right", va="top", fontsize=9, fontweight="bold")
    for each in axes[-1]:
        each.set_xlabel("seconds")
    return _pixels(figure)


def _figure(height_in: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure  # not pyplot: no display, no global state

    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _pixels(figure: Figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()  # type: ignore[attr-defined]
