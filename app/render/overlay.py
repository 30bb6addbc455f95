"""Drawing: ``overlay_2d`` over a picture, ``render_frames`` with the 3D panel beside it; frame in, frame out.

What was filled in is dashed, what is uncertain is fainter; colors as in ``app.render.drawing``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from app.geometry.world import seen_level
from app.render.drawing import (
    FAR_PX,
    MIDDLE,
    NUM_LEVELS,
    OUTLINE,
    WHITE,
    Color,
    bones_of,
    draw_dot,
    draw_line,
    make_label,
    mix,
    opacity_of,
    person_color,
    running_mean,
    side_colors,
    stamp,
)
from app.render.scene3d import Scene3D
from app.results import PoseResult
from app.video.video_info import VideoInfo
from detectors.people import Track
from lifter.skeletons import COCO17

FILLED_IN_OPACITY = 0.6
PANEL_ASPECT = 0.75
MIN_PANEL_WIDTH = 240
# Drawn in 2D: COCO-17 and a neck between the shoulders, which carries the head instead of two lines to the nose.
NECK = 17
_NOSE = COCO17.index("nose")
_SHOULDERS = (COCO17.index("left_shoulder"), COCO17.index("right_shoulder"))
COLORS_2D = (*side_colors(COCO17), MIDDLE)
BONES_2D = bones_of(
    [edge for edge in COCO17.edges if edge not in [(_NOSE, s) for s in _SHOULDERS]] + [(NECK, _NOSE)], COLORS_2D
)
FACE_2D = frozenset(COCO17.index(name) for name in ("left_eye", "right_eye", "left_ear", "right_ear"))


def overlay_2d(
    frame: np.ndarray, keypoints: np.ndarray, scores: np.ndarray, observed: bool, *, size_px: float | None = None
) -> np.ndarray:
    """Return a copy of an RGB picture with one COCO-17 skeleton drawn over it.

    Args:
        frame: (H, W, 3) uint8 RGB.
        keypoints: (17, 2) pixels; points that are not finite or absurdly far are left out.
        scores: (17,) in [0, 1]; lower is fainter.
        observed: False draws dashed and fainter: the frame was filled in.
        size_px: Diagonal of the person that sets the line width; None measures it in this frame.
    """
    canvas = frame.copy()
    _draw_person(canvas, keypoints, scores, bool(observed), size_px)
    return canvas


def _draw_person(
    canvas: np.ndarray, keypoints: np.ndarray, scores: np.ndarray, is_observed: bool, size_px: float | None
) -> None:
    points = np.vstack([keypoints, keypoints[_SHOULDERS, :].mean(axis=0)]).astype(np.float64)  # (18, 2) with the neck
    opacity = opacity_of(np.append(scores, scores[_SHOULDERS,].min()))
    usable = np.isfinite(points).all(axis=1) & (np.abs(np.nan_to_num(points)) < FAR_PX).all(axis=1)
    if not usable.any():
        return
    picture = math.sqrt(canvas.shape[0] * canvas.shape[1])
    size = _diagonal(points[usable]) if size_px is None else size_px
    width = min(max(0.0105 * size, 0.0018 * picture, 1.0), 0.009 * picture + 1)
    levels = np.ceil(opacity * (1.0 if is_observed else FILLED_IN_OPACITY) * NUM_LEVELS).astype(int)
    bone_levels = [min(levels[a], levels[b]) if usable[a] and usable[b] else 0 for a, b, _ in BONES_2D]
    joint_levels = [levels[j] if usable[j] and j != NECK else 0 for j in range(NECK)]
    for level in sorted({*bone_levels, *joint_levels} - {0}):  # solid lines lie over faint ones
        strokes = _Strokes(width, is_dashed=not is_observed)
        for (a, b, color), bone_level in zip(BONES_2D, bone_levels, strict=True):
            if bone_level == level:
                strokes.bone(points[a], points[b], color, 0.6 if {a, b} & FACE_2D else 1.0, canvas.shape)
        for j, joint_level in enumerate(joint_levels):
            if joint_level == level:
                strokes.joint(points[j], COLORS_2D[j], 0.7 if j in FACE_2D else 1.2)
        strokes.draw(canvas, level / NUM_LEVELS)


class _Strokes:
    """Lines and dots of one opacity; all their dark outlines lie below all their colors."""

    def __init__(self, width: float, is_dashed: bool) -> None:
        self._width = width
        self._rim = max(1.0, 0.3 * width)
        self._is_dashed = is_dashed
        self._lines: list[tuple[np.ndarray, np.ndarray, Color, float]] = []
        self._dots: list[tuple[np.ndarray, float, Color]] = []

    def bone(self, a: np.ndarray, b: np.ndarray, color: Color, factor: float, shape: tuple[int, ...]) -> None:
        clipped = _clip_segment(a, b, 4 * self._width + 8, shape)
        if clipped is None:
            return
        a, b = clipped
        if not self._is_dashed:
            self._lines.append((a, b, color, factor * self._width))
            return
        num_dashes = max(1, round(float(np.hypot(*(b - a))) / (6 * self._width)))
        for k in range(num_dashes):
            start, stop = (k + 0.18) / num_dashes, (k + 0.72) / num_dashes
            self._lines.append((a + start * (b - a), a + stop * (b - a), color, factor * self._width))

    def joint(self, point: np.ndarray, color: Color, factor: float) -> None:
        self._dots.append((point, factor * self._width, color))

    def draw(self, canvas: np.ndarray, alpha: float) -> None:
        reach = 3 * self._width + 4
        ends = [p for a, b, _, _ in self._lines for p in (a, b)] + [p for p, _, _ in self._dots]
        if not ends:
            return
        x0, y0 = np.maximum(np.min(ends, axis=0) - reach, 0).astype(int)
        x1, y1 = np.minimum(np.max(ends, axis=0) + reach, canvas.shape[1::-1]).astype(int)
        if x0 >= x1 or y0 >= y1:
            return
        region = canvas[y0:y1, x0:x1]
        layer = region if alpha == 1 else region.copy()
        corner = np.array((x0, y0))
        for extra, is_rim in ((self._rim, True), (0.0, False)):
            for a, b, color, width in self._lines:
                draw_line(layer, a - corner, b - corner, OUTLINE if is_rim else color, width + 2 * extra)
            for p, radius, color in self._dots:
                draw_dot(layer, p - corner, OUTLINE if is_rim else mix(color, WHITE, 0.3), radius + extra)
        if layer is not region:
            cv2.addWeighted(layer, alpha, region, 1 - alpha, 0, dst=region)


def output_size(info: VideoInfo, result: PoseResult) -> tuple[int, int]:
    """Return (height, width) of what ``render_frames`` yields: even with a panel, the video's own without people."""
    if not result.tracks:
        return info.height, info.width
    height = info.height + info.height % 2
    width = info.width + _panel_width(height, info.width)
    return height, width + width % 2


def render_frames(frames: Iterable[np.ndarray], result: PoseResult) -> Iterator[np.ndarray]:
    """Yield each RGB frame with all 2D skeletons drawn in and the 3D panel to its right; lazily, one by one.

    The panel is turned by the estimated tilt of the camera unless the result's options take the camera to be level.

    With nobody in the whole clip the frames pass unchanged. Otherwise all pictures have ``output_size``; an odd height
    grows by repeating the last row.

    Raises:
        ValueError: A frame has not the size of ``result.video``.
    """
    if not result.tracks:
        yield from frames
        return
    info = result.video
    height, width = output_size(info, result)
    poses = [seen_level(pose, result.world_rotation(result.shot_of(track))) for track, pose in result.people]
    scene = Scene3D(result.tracks, poses, height, width - info.width)
    sizes = [_steady_size(track) for track in result.tracks]
    tag_px = max(9.0, 0.024 * min(info.height, 1.4 * info.width))
    for index, frame in enumerate(frames):
        if frame.shape != (info.height, info.width, 3):
            raise ValueError(f"frame {index} has shape {frame.shape}, expected {(info.height, info.width, 3)}")
        canvas = np.empty((height, width, 3), np.uint8)
        canvas[: info.height, : info.width] = frame
        picture = canvas[: info.height, : info.width]
        for track, size in zip(result.tracks, sizes, strict=True):
            t = index - int(track.frames[0])
            if 0 <= t < len(track.frames) and track.valid[t]:
                _draw_person(picture, track.keypoints[t], track.scores[t], bool(track.observed[t]), float(size[t]))
                if len(result.tracks) > 1:
                    _draw_tag(picture, track, t, tag_px)
        canvas[info.height :, : info.width] = picture[-1:]
        canvas[:, info.width :] = scene.draw(index)
        yield canvas


def _panel_width(height: int, picture_width: int) -> int:
    """Return about 3/4 of the height, but no giant beside a narrow picture."""
    return max(MIN_PANEL_WIDTH, round(min(PANEL_ASPECT * height, 1.25 * picture_width)))


def _draw_tag(picture: np.ndarray, track: Track, t: int, text_px: float) -> None:
    points = track.keypoints[t]
    color = person_color(track.person_id)
    top = points[points[:, 1].argmin()]
    x = min(max(float(points[:5, 0].mean()), text_px), picture.shape[1] - text_px)
    y = min(max(float(top[1]) - 2.6 * text_px, text_px), picture.shape[0] - text_px)
    stamp(picture, make_label(str(track.person_id), text_px, OUTLINE, color), x, y)


def _diagonal(points: np.ndarray) -> float:
    return float(np.hypot(*np.ptp(points, axis=0)))


def _steady_size(track: Track) -> np.ndarray:
    """Return (T,) diagonals of the person in pixels, smoothed so that line widths do not flicker."""
    return running_mean(np.hypot(*np.moveaxis(np.ptp(track.keypoints.astype(np.float64), axis=1), -1, 0)))


def _clip_segment(
    a: np.ndarray, b: np.ndarray, margin: float, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the part of a segment inside the picture grown by ``margin``, None if there is none (Liang-Barsky)."""
    low, high = (-margin, -margin), (shape[1] + margin, shape[0] + margin)
    if all(low[i] <= p[i] <= high[i] for p in (a, b) for i in (0, 1)):
        return a, b
    step = b - a
    start, stop = 0.0, 1.0
    for axis in (0, 1):
        if step[axis] == 0:
            if not low[axis] <= a[axis] <= high[axis]:
                return None
            continue
        enter, leave = sorted(((low[axis] - a[axis]) / step[axis], (high[axis] - a[axis]) / step[axis]))
        start, stop = max(start, enter), min(stop, leave)
    return (a + start * step, a + stop * step) if start <= stop else None
