"""``draw_skeleton``: one person's 2D keypoints over the picture.

What was filled in is dashed, what is uncertain is fainter; colors as in ``app.render.drawing``.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

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
    mix,
    opacity_of,
    side_colors,
)
from lifter.skeletons import COCO17

FILLED_IN_OPACITY = 0.6
# Drawn in 2D: COCO-17 and a neck between the shoulders, which carries the head instead of two lines to the nose.
NECK = 17
_NOSE = COCO17.index("nose")
_SHOULDERS = (COCO17.index("left_shoulder"), COCO17.index("right_shoulder"))
COLORS_2D = (*side_colors(COCO17), MIDDLE)
BONES_2D = bones_of(
    [edge for edge in COCO17.edges if edge not in [(_NOSE, s) for s in _SHOULDERS]] + [(NECK, _NOSE)], COLORS_2D
)
FACE_2D = frozenset(COCO17.index(name) for name in ("left_eye", "right_eye", "left_ear", "right_ear"))


def draw_skeleton(
    canvas: np.ndarray, keypoints: np.ndarray, scores: np.ndarray, *, is_observed: bool, size_px: float | None = None
) -> None:
    """Draw one COCO-17 skeleton into an RGB picture.

    Args:
        canvas: (H, W, 3) uint8 RGB, changed in place.
        keypoints: (17, 2) pixels; points that are not finite or absurdly far are left out.
        scores: (17,) in [0, 1]; lower is fainter.
        is_observed: False draws dashed and fainter: the frame was filled in.
        size_px: Diagonal of the person that sets the line width; None measures it in this frame.
    """
    points = np.vstack([keypoints, keypoints[_SHOULDERS, :].mean(axis=0)]).astype(np.float64)  # (18, 2) with the neck
    opacity = opacity_of(np.append(scores, scores[_SHOULDERS,].min()))
    usable = np.isfinite(points).all(axis=1) & (np.abs(np.nan_to_num(points)) < FAR_PX).all(axis=1)
    if not usable.any():
        return
    picture = math.sqrt(canvas.shape[0] * canvas.shape[1])
    size = float(np.hypot(*np.ptp(points[usable], axis=0))) if size_px is None else size_px
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
