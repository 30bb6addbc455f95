"""Cuts between shots, found in the pictures themselves.

A flash, a strobe light or a fade changes the brightness of the same picture: what stays is its pattern.
"""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np

CUT_SIZE = 32  # pictures are compared at 32 x 32
CUT_DIFFERENCE = 25  # mean gray levels; cuts measured at 53 to 72, exposure jumps up to 19 ...
CUT_RATIO = 4  # ... and this often the recent median: close passers-by reach 31, but for many frames
CUT_MEMORY = 10  # frames of that median
SAME_PATTERN = 0.8  # correlation of two thumbnails of one picture under other light
CLIPPED = (4, 251)  # gray levels beyond are too dark or too bright to show a pattern
MIN_PATTERN = 0.1  # share of the thumbnail, and
MIN_CONTRAST = 6  # standard deviation in gray levels, without which there is no pattern: a white or black picture


class ShotBoundaryDetector:
    """Notices that another picture is shown."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._recent: deque[float] = deque(maxlen=CUT_MEMORY)

    def is_cut(self, frame: np.ndarray) -> bool:
        """Return whether ``frame`` (H, W, 3) uint8 begins a new shot; False for the first frame."""
        step = max(1, min(frame.shape[:2]) // (4 * CUT_SIZE))  # averaging every pixel would take 3 ms at 720p
        coarse = np.ascontiguousarray(frame[::step, ::step])
        thumbnail = cv2.resize(coarse, (CUT_SIZE, CUT_SIZE), interpolation=cv2.INTER_AREA).astype(np.float32)
        last = self._last
        if last is None:
            self._last = thumbnail
            return False
        difference = float(np.abs(thumbnail - last).mean())
        usual = float(np.median(self._recent)) if self._recent else 0.0
        if difference <= max(CUT_DIFFERENCE, CUT_RATIO * usual):
            self._last = thumbnail
            self._recent.append(difference)
            return False
        likeness = pattern_likeness(last, thumbnail)
        if (
            likeness is None and last.std() >= MIN_CONTRAST
        ):  # a flash: what comes next is compared with what came before
            return False
        self._last = thumbnail
        if likeness is None:  # a picture begins, as behind a black start
            return False
        if likeness >= SAME_PATTERN:
            return False
        self._recent.append(difference)
        return True


def pattern_likeness(first: np.ndarray, second: np.ndarray) -> float | None:
    """Return the correlation of two thumbnails (H, W, 3) where neither is clipped; None if one shows no pattern."""
    low, high = CLIPPED
    usable = ((first > low) & (first < high) & (second > low) & (second < high)).all(axis=2)
    if usable.mean() < MIN_PATTERN:
        return None
    a, b = (each[usable].ravel() for each in (first, second))
    if min(a.std(), b.std()) < MIN_CONTRAST:
        return None
    return float(np.corrcoef(a, b)[0, 1])
