"""Camera motion: whether the camera moves, from corners of the background tracked by optical flow."""

from __future__ import annotations

import cv2
import numpy as np

SIDE_PX = 320  # longer side of the gray picture
EVERY = 6  # frames; a look costs 3 to 5 ms, and a camera that moves has moved by then
CORNERS = 80
LEAST_CORNERS = 12  # that moved alike; fewer could be on one passer-by
AGREEING = 0.5  # of all corners that were found again, else there is no background to speak of
ROUND_TRIP_PX = 0.5  # a corner that is not found where it came from is lost
RENEW = 0.04  # of the longer side; beyond, the overlap with the first picture gets small
BODY_MARGIN = 0.15  # of a person's box, on every side
MOVED = 0.015  # of the longer side: 0.8 degrees of 55. Static cameras of our test clips stay below 0.004
MOVED_SHARE = 0.1  # of looks; a knock against the tripod is no moving camera
LEAST_LOOKS_SHARE = 0.3  # of all looks that must have found a background, else nothing is said


class CameraMotion:
    """Compares frames of one shot with its first, as far as the same background is in the picture.

    Attributes:
        shifts: How far the middle of the picture, or its edge by zooming or rolling, has moved since the shot began, in
            longer sides of the picture; one per look that found a background.
    """

    def __init__(self) -> None:
        self.shifts: list[float] = []
        self._num_looks = 0
        self._frame = 0
        self._gray: np.ndarray | None = None
        self._corners: np.ndarray | None = None
        self._since = np.eye(3)  # from the shot's first picture to that with the corners

    @property
    def is_moving(self) -> bool | None:
        """Whether the camera moved; None if too little background was found to tell."""
        if len(self.shifts) < max(1, LEAST_LOOKS_SHARE * self._num_looks):
            return None
        return float(np.mean(np.array(self.shifts) > MOVED)) > MOVED_SHARE

    def see(self, frame: np.ndarray, boxes: np.ndarray) -> None:
        """Take note of the next frame.

        Args:
            frame: (H, W, 3) uint8 RGB.
            boxes: (N, 4) x0 y0 x1 y1 of people [px], who may move.
        """
        self._frame += 1
        if (self._frame - 1) % EVERY:
            return
        gray = small_gray(frame)
        mask = background(gray.shape, boxes * (max(gray.shape) / max(frame.shape[:2])))
        if self._gray is None or self._corners is None:
            self._renew(gray, mask)
            return
        self._num_looks += 1
        motion = background_motion(self._gray, gray, self._corners, mask)
        if motion is None:
            self._renew(gray, mask)  # what happened in between is lost
            return
        now = motion @ self._since
        self.shifts.append(shift_of(now, gray.shape))
        if shift_of(motion, gray.shape) > RENEW:
            self._since = now
            self._renew(gray, mask)

    def _renew(self, gray: np.ndarray, mask: np.ndarray) -> None:
        self._gray = gray
        self._corners = cv2.goodFeaturesToTrack(gray, CORNERS, 0.01, 6, mask=mask)


def small_gray(frame: np.ndarray) -> np.ndarray:
    """Return an RGB frame (H, W, 3) as uint8 gray whose longer side is ``SIDE_PX``."""
    step = max(1, max(frame.shape[:2]) // (2 * SIDE_PX))
    gray = cv2.cvtColor(np.ascontiguousarray(frame[::step, ::step]), cv2.COLOR_RGB2GRAY)
    scale = SIDE_PX / max(gray.shape)
    size = (max(1, round(gray.shape[1] * scale)), max(1, round(gray.shape[0] * scale)))
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def background(shape: tuple[int, ...], boxes: np.ndarray) -> np.ndarray:
    """Return a mask (h, w) uint8 that is 0 on people, 255 elsewhere; boxes (N, 4) in its own pixels."""
    mask = np.full(shape, 255, np.uint8)
    for x0, y0, x1, y1 in boxes:
        margin = BODY_MARGIN * max(x1 - x0, y1 - y0)
        columns, rows = (
            slice(*np.clip([low - margin, high + margin], 0, None).astype(int)) for low, high in ((x0, x1), (y0, y1))
        )
        mask[rows, columns] = 0
    return mask


def background_motion(
    before: np.ndarray, after: np.ndarray, corners: np.ndarray, mask: np.ndarray
) -> np.ndarray | None:
    """Return how the background moved between two gray pictures: (3, 3), turn, scale and shift; None if unclear.

    Args:
        before: (h, w) uint8.
        after: (h, w) uint8.
        corners: (N, 1, 2) float32, in ``before``.
        mask: (h, w) uint8, 0 where ``after`` shows people.
    """
    found, has_found = _follow(before, after, corners)
    back, has_back = _follow(after, before, found)
    is_kept = (has_found[:, 0] == 1) & (has_back[:, 0] == 1)
    is_kept &= np.linalg.norm((back - corners)[:, 0], axis=1) < ROUND_TRIP_PX
    columns, rows = (
        np.clip(np.rint(np.nan_to_num(found[:, 0])), 0, (mask.shape[1] - 1, mask.shape[0] - 1)).astype(int).T
    )
    is_kept &= mask[rows, columns] > 0
    if is_kept.sum() < LEAST_CORNERS:
        return None
    motion, agrees = cv2.estimateAffinePartial2D(corners[is_kept], found[is_kept], ransacReprojThreshold=1.0)
    if motion is None or agrees.sum() < max(LEAST_CORNERS, AGREEING * is_kept.sum()):
        return None
    return np.vstack([motion, [0, 0, 1]])


def _follow(before: np.ndarray, after: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where corners (N, 1, 2) went, and whether they were found (N, 1)."""
    places = np.empty_like(corners)
    _, has_found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, places, winSize=(15, 15), maxLevel=3)
    return places, np.asarray(has_found)


def shift_of(motion: np.ndarray, shape: tuple[int, ...]) -> float:
    """Return how far a motion (3, 3) moves a picture's middle and, by turn and scale, its edge, in longer sides."""
    height, width = shape
    middle, edge = np.array([width / 2, height / 2, 1]), np.array([max(shape) / 2, 0])
    moved = float(np.linalg.norm((motion @ middle - middle)[:2]))
    stretched = float(np.linalg.norm(motion[:2, :2] @ edge - edge))
    return max(moved, stretched) / max(shape)
