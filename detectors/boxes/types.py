"""Types of box networks: detections in one frame, and the interface of a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from detectors.people import People

MAX_PEOPLE = 30  # per frame, the most certain ones
ABSENT_SCORE = 0.25  # mean over a person's joints in an interpolated box: nobody is there


@dataclass(frozen=True, slots=True, eq=False)
class BoxDetections:
    """The people in one frame, most certain first.

    Attributes:
        boxes: (N, 4) float32 x0 y0 x1 y1 px, inside the picture.
        scores: (N,) float32 in [0, 1].
        keypoints: (N, 17, 3) float32 x and y in px, score in [0, 1]; None for networks that only find boxes.
        is_detected: False if the boxes are interpolated (``detectors.boxes.interpolation``).
    """

    boxes: np.ndarray
    scores: np.ndarray
    keypoints: np.ndarray | None = None
    is_detected: bool = True

    def with_keypoints(self, keypoints: np.ndarray, scores: np.ndarray) -> People:
        """Return the people with keypoints (N, 17, 2) px and scores (N, 17), but for empty interpolated boxes."""
        kept = self.is_detected | (scores.mean(axis=1) >= ABSENT_SCORE)  # (N,)
        return People(self.boxes[kept], self.scores[kept], keypoints[kept], scores[kept])


class BoxNetwork(Protocol):
    """A network that finds people: ``detectors.boxes.yolo.Yolo`` or ``detectors.boxes.yolox.YoloX``."""

    def __call__(self, frames: Sequence[np.ndarray], /) -> list[BoxDetections]:
        """Return one ``BoxDetections`` per RGB uint8 frame (H, W, 3); all frames have one size."""
