"""One-euro filter of keypoints."""

from __future__ import annotations

import math

import numpy as np

# One-euro filter of MediaPipe's landmarks; its clock counts 30 frames a second whatever the video does.
FPS, MIN_CUTOFF_HZ, SPEED_CUTOFF_HZ, SPEED_WEIGHT = 30.0, 0.05, 1.0, 80.0


class OneEuroFilter:
    """One-euro filter: the slower a joint moves, the more it is smoothed.

    Source: Casiez et al., 1 Euro Filter, CHI 2012; constants of mediapipe's pose_landmark_filtering.
    """

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._speed = np.zeros(1)
        self._smooth = np.zeros(1)

    def __call__(self, points: np.ndarray, size: float) -> np.ndarray:
        """Return points (17, 2) px smoothed; ``size`` [px] is that of the person."""
        if self._last is None:
            self._speed, self._smooth = np.zeros_like(points), points
        else:
            share = _share(SPEED_CUTOFF_HZ)
            self._speed = share * (points - self._last) / size * FPS + (1 - share) * self._speed
            shares = _share(MIN_CUTOFF_HZ + SPEED_WEIGHT * np.abs(self._speed))
            self._smooth = shares * points + (1 - shares) * self._smooth
        self._last = points
        return self._smooth


def _share(cutoff_hz: float | np.ndarray) -> np.ndarray:
    """Return the weight of the newest value in a low-pass filter."""
    return 1 / (1 + FPS / (2 * math.pi * np.asarray(cutoff_hz)))
