"""``BarFinder``: borders that are burnt into a video around the real picture: bars of one color, or blurred sides."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

MAX_SAMPLES = 32
TOLERANCE = 10  # gray levels, of 255, within one bar
SAME = 0.98  # share of a line that must have the bar's color
BLACK = 24  # bars up to this level may differ in width
LEAST_BAR = 0.02  # of the side, of one color
LEAST_BLURRED = 0.1  # of the side
LEAST_PICTURE = 0.15  # of the side
DIFFERS = 14  # gray levels between a bar and the picture beside it
BLUR_DIFFERS = 8  # the same for blurred sides, whose colors are like the picture's
LEAST_EDGE = 0.5  # share of a line along which they differ: the edge of a picture is straight
LEAST_LIKE_EDGE = 0.05  # the same for the second of two equal bars
LEAST_BLUR_EDGE = 0.15  # the same for each of two blurred sides
LEAST_BLUR_EDGES = 0.5  # the same for both together
MAX_BLUR_DETAIL = 0.35  # fine detail of blurred sides over that of the picture between them
LEAST_SIDE = 240  # px of a picture in which blurred sides are looked for
SMALL = 1 / 4  # scale at which blurred sides are compared with the picture
LEAST_LIKENESS = 0.7  # correlation of blurred sides with the picture, enlarged until it covers them


class Bars(NamedTuple):
    """Widths of the borders in pixels of the shown picture."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    @property
    def origin(self) -> np.ndarray:
        """Pixel (x, y) float32 at which the first pixel inside the borders lies."""
        return np.array([self.left, self.top], np.float32)

    def inner_size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of what lies inside the borders."""
        return width - self.left - self.right, height - self.top - self.bottom

    def crop(self, picture: np.ndarray) -> np.ndarray:
        """Return what lies inside the borders of a picture (H, W, C), as an array of its own where there are any."""
        if not any(self):
            return picture
        height, width = picture.shape[:2]
        return np.ascontiguousarray(picture[self.top : height - self.bottom, self.left : width - self.right])


NO_BARS = Bars()


class BarFinder:
    """Sees some pictures of a video, all of one size, and says which borders all of them have."""

    def __init__(self) -> None:
        self._uniform: list[tuple[np.ndarray, np.ndarray]] = []  # widths (4,), straightness (4,)
        self._profiles: list[list[np.ndarray]] = []  # of both axes: detail and edges, (2, side)
        self._small: list[np.ndarray] = []
        self._num_seen, self._stride = 0, 1

    def see(self, show: Callable[[], np.ndarray]) -> None:
        """Take the picture (H, W, 3) that ``show`` returns into account; of many, fewer and fewer are."""
        self._num_seen += 1
        if (self._num_seen - 1) % self._stride:
            return
        gray = cv2.cvtColor(show(), cv2.COLOR_RGB2GRAY).astype(np.int16)
        if np.ptp(gray) <= 2 * TOLERANCE:  # faded out: tells nothing
            return
        self._uniform.append(_uniform_borders(gray))
        self._profiles.append([_profiles(gray), _profiles(gray.T)])
        self._small.append(cv2.resize(gray, None, fx=SMALL, fy=SMALL, interpolation=cv2.INTER_AREA))
        if len(self._uniform) >= MAX_SAMPLES:
            self._stride *= 2
            for samples in (self._uniform, self._profiles, self._small):
                del samples[1::2]

    def find(self) -> Bars:
        """Return the borders; all 0 if there are none or they cannot be told from the picture."""
        if not self._uniform:
            return NO_BARS
        widths = np.min([each for each, _ in self._uniform], axis=0)
        straightness = np.max(
            [np.where(np.abs(each - widths) <= 1, straight, 0) for each, straight in self._uniform], axis=0
        )
        sides = [len(profiles[0]) for profiles in self._profiles[0]]
        found = [0, 0, 0, 0]
        for axis, side in enumerate(sides):
            pair = widths[axis], widths[axis + 2]
            if _are_plausible(pair, (straightness[axis], straightness[axis + 2]), side):
                found[axis], found[axis + 2] = map(int, pair)
        return Bars(*found) if any(found) else self._blurred()

    def _blurred(self) -> Bars:
        """Return borders that show the picture itself, enlarged and blurred, as editors of portrait video add them."""
        for axis in range(2):
            detail, edge = np.mean([profiles[axis] for profiles in self._profiles], axis=0)
            before, behind = _blurred_sides(detail, edge)
            bars = Bars(before, 0, behind, 0) if axis == 0 else Bars(0, before, 0, behind)
            if any(bars) and _likeness(self._small, bars) >= LEAST_LIKENESS:
                return bars
        return NO_BARS


def _are_plausible(pair: tuple[int, int], straightness: tuple[float, float], side: int) -> bool:
    """Return whether opposite borders of one color are bars; a picture may be like one of them where they meet."""
    if min(pair) < LEAST_BAR * side or side - sum(pair) < LEAST_PICTURE * side:
        return False
    is_symmetric = abs(pair[0] - pair[1]) <= max(4, 0.02 * side)
    return min(straightness) >= (LEAST_LIKE_EDGE if is_symmetric else LEAST_EDGE) and max(straightness) >= LEAST_EDGE


def _uniform_borders(gray: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the widths (4,) of the borders of one color: left, top, right, bottom; and how straight they end (4,).

    Both are 0 where the opposite borders differ in color, or in width unless they are black.
    """
    left, right = 0, 0
    for _ in range(2):  # the ends of lines lie in the other pair of bars at first
        top, bottom, top_edge, bottom_edge = _opposite(gray[:, left : gray.shape[1] - right])
        left, right, left_edge, right_edge = _opposite(gray[top : gray.shape[0] - bottom].T)
    return np.array([left, top, right, bottom]), np.array([left_edge, top_edge, right_edge, bottom_edge])


def _opposite(lines: np.ndarray) -> tuple[int, int, float, float]:
    """Return the widths of the borders before and behind the picture, and how straight each ends."""
    first, last = np.median(lines[0]), np.median(lines[-1])
    if abs(first - last) > TOLERANCE:
        return 0, 0, 0.0, 0.0
    differs = np.abs(lines - first) > TOLERANCE
    is_picture = np.flatnonzero(differs.mean(axis=1) > 1 - SAME)
    if len(is_picture) < LEAST_PICTURE * len(lines):
        return 0, 0, 0.0, 0.0
    before, behind = int(is_picture[0]), len(lines) - 1 - int(is_picture[-1])
    if first > BLACK and abs(before - behind) > max(4, 0.02 * len(lines)):
        return 0, 0, 0.0, 0.0
    is_other = np.abs(lines - first) > DIFFERS
    end = len(lines) - behind
    edges = [float(near.mean(axis=1).max()) for near in (is_other[before : before + 3], is_other[end - 3 : end])]
    return before, behind, edges[0], edges[1]


def _profiles(gray: np.ndarray) -> np.ndarray:
    """Return, for every column, the mean detail along it and the share of it that differs from the column before."""
    detail = np.abs(np.diff(gray, 2, axis=0)).mean(axis=0)
    edge = np.zeros(gray.shape[1])
    edge[1:] = (np.abs(np.diff(gray, axis=1)) > BLUR_DIFFERS).mean(axis=0)
    return np.stack([detail, edge])


def _blurred_sides(detail: np.ndarray, edge: np.ndarray) -> tuple[int, int]:
    """Return the widths of equal blurred borders before and behind a sharp picture; 0 and 0 if there are none."""
    side = len(detail)
    if side < LEAST_SIDE:
        return 0, 0
    best, strength = (0, 0), LEAST_BLUR_EDGES
    for before in range(max(8, round(LEAST_BLURRED * side)), round((1 - LEAST_PICTURE) / 2 * side)):
        near = edge[side - before - 2 : side - before + 3]
        behind = before + 2 - int(near.argmax())
        outside = np.concatenate([detail[: before - 2], detail[side - behind + 2 :]])
        is_soft = outside.mean() < MAX_BLUR_DETAIL * detail[before + 2 : side - behind - 2].mean()
        if is_soft and min(edge[before], near.max()) >= LEAST_BLUR_EDGE and edge[before] + near.max() > strength:
            best, strength = (before, behind), float(edge[before] + near.max())
    return best


def _likeness(pictures: list[np.ndarray], bars: Bars) -> float:
    """Return how borders correlate with the picture inside them, enlarged to cover all; pictures are small and gray."""
    borders: list[np.ndarray] = []
    covers: list[np.ndarray] = []
    inside = Bars(*(round(width * SMALL) for width in bars))
    for picture in pictures:
        height, width = picture.shape
        inner = inside.crop(picture).astype(np.float32)
        scale = max(width / inner.shape[1], height / inner.shape[0])
        cover = cv2.resize(inner, (math.ceil(scale * inner.shape[1]), math.ceil(scale * inner.shape[0])))
        top, left = (cover.shape[0] - height) // 2, (cover.shape[1] - width) // 2
        is_border = np.ones(picture.shape, bool)
        is_border[inside.top : height - inside.bottom, inside.left : width - inside.right] = False
        borders.append(cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 4)[is_border])
        covers.append(cv2.GaussianBlur(cover[top : top + height, left : left + width], (0, 0), 4)[is_border])
    both = np.stack([np.concatenate(borders), np.concatenate(covers)])
    return float(np.corrcoef(both)[0, 1]) if (both.std(axis=1) > 1).all() else 0.0
