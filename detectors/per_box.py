"""``PerBox`` finds keypoints of everybody whose box is known, with a network that sees one person; knows no model.

    a box where somebody's was a frame ago   look where that body leads; it must fit the box
    any other box, or the body did not fit   look at the box, then once more where the body found there leads

The network has no memory, so neighbours cannot be mixed up for longer than a frame, and one instance serves everybody.
A body that does not fit its box is somebody else's, or nobody's: the box stays without keypoints in this frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from detectors.between import same_people
from detectors.body import BODY, box_iou
from detectors.boxes import Seen
from detectors.follower import Body, grow
from detectors.people import People

SEEN_SCORE = 0.3  # of joints that show where the body is
BOX_MARGIN = 0.1  # around the keypoints [box sizes]: the head's top and the feet lie outside of them
MIN_FIT = 0.4  # overlap of a box and its body's
PADDING = 1.25  # of a region around a body; what BlazePose was trained with
# One-euro filter of MediaPipe's landmarks; its clock counts 30 frames a second whatever the video does.
FPS, MIN_CUTOFF_HZ, SPEED_CUTOFF_HZ, SPEED_WEIGHT = 30.0, 0.05, 1.0, 80.0


@dataclass(frozen=True, slots=True)
class Region:
    """A square of the picture: centre x and y [px], side [px], clockwise turn [radians] of the person's up."""

    x: float
    y: float
    side: float
    angle: float = 0.0

    @classmethod
    def of_box(cls, box: np.ndarray) -> Region:
        """Return the region around box (4,)."""
        size = float(max(box[2] - box[0], box[3] - box[1]))
        return cls(float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2, PADDING * size)

    @classmethod
    def of_circle(cls, x: float, y: float, rim_x: float, rim_y: float) -> Region:
        """Return the region of a body: a circle around the middle of the hips, up to the point above the head."""
        across, along = float(rim_x - x), float(rim_y - y)
        return cls(float(x), float(y), PADDING * 2 * math.hypot(across, along), math.atan2(across, -along))


Look = Callable[[np.ndarray, Region], "tuple[Body, Region] | None"]


class Steady:
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


@dataclass(frozen=True, slots=True, eq=False)
class Followed:
    """Somebody in the frame before: box (4,), what to look at next, and the filter of the keypoints."""

    box: np.ndarray
    body: Body
    region: Region
    steady: Steady


class PerBox:
    """Boxes of consecutive frames -> ``People``.

    Args:
        look: The network: a frame (H, W, 3) and a region -> the body there and the region that fits it.
    """

    def __init__(self, look: Look) -> None:
        self._look = look
        self._followed: list[Followed] = []

    def step(self, frame: np.ndarray, seen: Seen) -> People:
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
        rough = self._look(frame, Region.of_box(box))
        answer = None if rough is None else self._fitting(frame, box, rough[1])
        return None if answer is None else Followed(box, *answer, Steady())

    def _fitting(self, frame: np.ndarray, box: np.ndarray, region: Region) -> tuple[Body, Region] | None:
        answer = self._look(frame, region)
        return answer if answer is not None and fit(answer[0], box, *frame.shape[:2]) >= MIN_FIT else None


def fit(body: Body, box: np.ndarray, height: int, width: int) -> float:
    """Return the overlap of ``box`` (4,) and the box of the body as far as it is seen, as intersection over union."""
    seen = body.keypoints[BODY][body.scores[BODY] >= SEEN_SCORE]
    if not len(seen):
        return 0.0
    own = grow(np.r_[seen.min(axis=0), seen.max(axis=0)], BOX_MARGIN).clip(0, [width - 1, height - 1] * 2)
    return float(box_iou(own[None], box[None])[0, 0])
