"""Pose of several people: keypoints of everybody whose box is known, by a network that finds one person.

    a box where somebody's was a frame ago   look where that body leads; it must fit the box
    any other box, or the body did not fit   look at the box, then once more where the body found there leads

The network has no memory, so neighbors cannot be mixed up for longer than a frame, and one instance serves everybody.
A body that does not fit its box is somebody else's, or nobody's: the box stays without keypoints in this frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from detectors.blazepose.one_euro_filter import OneEuroFilter
from detectors.blazepose.types import PADDING, VISIBLE_SCORE, PoseDetection, RotatedRoi
from detectors.boxes.interpolation import same_people
from detectors.boxes.types import BoxDetections
from detectors.matching import box_iou
from detectors.people import People
from detectors.pose_geometry import BODY, grow_box

BOX_MARGIN = 0.1  # around the keypoints [box sizes]: the head's top and the feet lie outside of them
MIN_FIT = 0.4  # overlap of a box and its body's


Look = Callable[[np.ndarray, RotatedRoi], "tuple[PoseDetection, RotatedRoi] | None"]


@dataclass(frozen=True, slots=True, eq=False)
class Followed:
    """Somebody in the frame before: box (4,), what to look at next, and the filter of the keypoints."""

    box: np.ndarray
    body: PoseDetection
    region: RotatedRoi
    steady: OneEuroFilter


class MultiPersonPose:
    """Boxes of consecutive frames -> ``People``.

    Args:
        look: The network: a frame (H, W, 3) and a region -> the body there and the region that fits it.
    """

    def __init__(self, look: Look) -> None:
        self._look = look
        self._followed: list[Followed] = []

    def step(self, frame: np.ndarray, seen: BoxDetections) -> People:
        """Return everybody with keypoints in the next ``frame``, in the order of ``seen``."""
        before = self._before(seen.boxes)
        found = [self._find(frame, box, before.get(n)) for n, box in enumerate(seen.boxes)]
        rows = [n for n, person in enumerate(found) if person is not None]
        self._followed = [person for person in found if person is not None]
        if not rows:
            return People.nobody()
        keypoints = [person.steady(person.body.keypoints, person.region.side / PADDING) for person in self._followed]
        scores = [person.body.scores for person in self._followed]
        return People(seen.boxes[rows], seen.scores[rows], np.stack(keypoints).astype(np.float32), np.stack(scores))

    def _before(self, boxes: np.ndarray) -> dict[int, Followed]:
        """Return for boxes (N, 4) who was there a frame ago."""
        if not self._followed:
            return {}
        pairs = same_people(np.stack([person.box for person in self._followed]), boxes)
        return {n: self._followed[m] for m, n in pairs}

    def _find(self, frame: np.ndarray, box: np.ndarray, before: Followed | None) -> Followed | None:
        """Return the person in ``box`` (4,), None if no body there fits it."""
        if before is not None and (answer := self._fitting(frame, box, before.region)) is not None:
            return Followed(box, *answer, before.steady)
        rough = self._look(frame, RotatedRoi.of_box(box))
        answer = None if rough is None else self._fitting(frame, box, rough[1])
        return None if answer is None else Followed(box, *answer, OneEuroFilter())

    def _fitting(
        self, frame: np.ndarray, box: np.ndarray, region: RotatedRoi
    ) -> tuple[PoseDetection, RotatedRoi] | None:
        answer = self._look(frame, region)
        return answer if answer is not None and fit(answer[0], box, *frame.shape[:2]) >= MIN_FIT else None


def fit(body: PoseDetection, box: np.ndarray, height: int, width: int) -> float:
    """Return the overlap of ``box`` (4,) and the box of the body as far as it is seen, as intersection over union."""
    seen = body.keypoints[BODY][body.scores[BODY] >= VISIBLE_SCORE]
    if not len(seen):
        return 0.0
    own = grow_box(np.r_[seen.min(axis=0), seen.max(axis=0)], BOX_MARGIN).clip(0, [width - 1, height - 1] * 2)
    return float(box_iou(own[None], box[None])[0, 0])
