"""Where to look for people whose head is above the picture, such as passers-by close to a low camera.

The person detector was trained on bodies with faces and does not see them, but the landmark network knows legs if it is
given the right region. Such people walk: a region is tried where the picture changes and nobody is followed.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from detectors.blazepose.types import RotatedRoi

# The hips of these people are about here, and their regions so large [heights of the picture].
HIPS_Y, SIDE, APART = 0.12, 1.8, 0.2
ROWS = 24  # of the thumbnails that are compared
MIN_CHANGE = 12.0  # gray levels
MIN_SHARE = 0.1  # of the upper part of the strip below a region's hips that must change
STRIP_WIDTH, STRIP_HEIGHT = 0.24, 0.25  # of that strip [heights of the picture]
MARGIN = 0.1  # around people who are followed [heights of the picture]


class HeadlessSearch:
    """Takes turns between regions along the upper border in which something moves. One instance for one shot.

    Args:
        height: Of the picture [px].
        width: Of the picture [px].
    """

    def __init__(self, height: int, width: int) -> None:
        self._scale = ROWS / height
        self._size = (max(1, round(width * self._scale)), ROWS)
        count = max(1, round(width / (APART * height)))
        centers = (np.arange(count) + 0.5) * width / count
        self._regions = [RotatedRoi(float(x), HIPS_Y * height, SIDE * height) for x in centers]
        reach = STRIP_WIDTH / 2 * height
        self._strips = [self._slices(x - reach, 0, x + reach, STRIP_HEIGHT * height) for x in centers]
        self._waiting = np.ones(count)  # turns since last tried
        self._before: np.ndarray | None = None
        self._margin = MARGIN * height

    def next(self, frame: np.ndarray, boxes: Iterable[np.ndarray]) -> RotatedRoi | None:
        """Return the region to try in ``frame`` (H, W, 3) uint8; None if nothing moves that could be somebody.

        Args:
            frame: Some frames behind that of the last call.
            boxes: (4,) px of everybody who is followed.
        """
        step = max(1, frame.shape[0] // (4 * ROWS))
        small = cv2.resize(np.ascontiguousarray(frame[::step, ::step]), self._size, interpolation=cv2.INTER_AREA)
        gray = small.mean(axis=2, dtype=np.float32)
        before, self._before = self._before, gray
        if before is None:
            return None
        changed = np.abs(gray - before) > MIN_CHANGE
        for x0, y0, x1, y1 in boxes:
            margin = self._margin
            changed[self._slices(x0 - margin, y0 - margin, x1 + margin, y1 + margin)] = False
        shares = np.array([changed[strip].mean() for strip in self._strips])
        self._waiting += 1
        urgency = np.where(shares >= MIN_SHARE, shares * self._waiting, 0)
        best = int(urgency.argmax())
        if urgency[best] == 0:
            return None
        self._waiting[best] = 0
        return self._regions[best]

    def _slices(self, x0: float, y0: float, x1: float, y1: float) -> tuple[slice, slice]:
        """Return the part of a thumbnail inside a box [px of the picture]."""
        low_x, low_y, high_x, high_y = (max(0, round(float(value) * self._scale)) for value in (x0, y0, x1, y1))
        return slice(low_y, max(high_y, low_y + 1)), slice(low_x, max(high_x, low_x + 1))
