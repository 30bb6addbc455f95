"""Types of the pose networks: a detected pose and the rotated region of interest it comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

VISIBLE_SCORE = 0.3  # of a keypoint that is seen; hidden ones and those outside the picture are guesses
PADDING = 1.25  # of a region around a body; what BlazePose was trained with


@dataclass(frozen=True, slots=True, eq=False)
class PoseDetection:
    """One person in one frame: keypoints (17, 2) float32 in px of the whole picture, scores (17,) float32."""

    keypoints: np.ndarray
    scores: np.ndarray

    @property
    def box(self) -> np.ndarray:
        """(4,) x0 y0 x1 y1 of the keypoints, unclipped."""
        return np.r_[self.keypoints.min(axis=0), self.keypoints.max(axis=0)]


@dataclass(frozen=True, slots=True)
class RotatedRoi:
    """A square of the picture: center x and y [px], side [px], clockwise turn [radians] of the person's up."""

    x: float
    y: float
    side: float
    angle: float = 0.0

    @classmethod
    def of_box(cls, box: np.ndarray) -> RotatedRoi:
        """Return the region around box (4,)."""
        size = float(max(box[2] - box[0], box[3] - box[1]))
        return cls(float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2, PADDING * size)

    @classmethod
    def of_circle(cls, x: float, y: float, rim_x: float, rim_y: float) -> RotatedRoi:
        """Return the region of a body: a circle around the middle of the hips, up to the point above the head."""
        across, along = float(rim_x - x), float(rim_y - y)
        return cls(float(x), float(y), PADDING * 2 * math.hypot(across, along), math.atan2(across, -along))
