"""Single-person tracking around MediaPipe's tracker: keeps it to one person, checks that it is one; knows no model.

A tracker such as MediaPipe's loses a person, takes whoever it finds next and stays there, and it follows furniture as
happily as people. ``SinglePersonTracker`` watches it from frame to frame, as long as all is well at the cost of the
tracking call alone:

    nobody yet      somebody is found and a fresh look at the mirrored crop finds the same pose -> the main person
    main person     MediaPipe's next pose is a motion that a body can make                      -> go on
                    it is not, or there is none -> look where the main person should be; found  -> go on from there
                    not found                                                                   -> nobody this frame
                    not found for PATIENCE_FRAMES, or a cut                                     -> nobody yet
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol

import numpy as np

from detectors.blazepose.types import PoseDetection
from detectors.pose_geometry import BODY, MIRRORED, body_center, body_size, motion_strain
from detectors.shot_boundaries import ShotBoundaryDetector

PATIENCE_FRAMES = 30  # look for the main person this long before anybody else is accepted: 1 s at 30 fps
LEFT_PATIENCE_FRAMES = 6  # ... and this long if he was about to leave the picture: the middle of his torso ...
BORDER = 0.08  # ... was this near to its border [picture sizes]
AUDIT_FRAMES = 12  # a fresh look at the tracked person this often (+2 ms per frame): drift onto furniture is smooth
SUSPICIOUS_STRAIN = 0.5  # ... and at once after a motion this close to the possible: 1 % of frames, mostly drift
MAX_STRIKES = 3  # audits in a row that must fail; a real person may fail one
MAX_DISAGREEMENT = 0.12  # of two looks [body sizes]: measured below 0.04 on people, above 0.4 or nothing on furniture
LOOKS = ((0.15, True), (0.25, False))  # (margin [body boxes], mirrored): tight, as a wide crop may show a neighbor
DRIFT_MEMORY = 0.5  # weight of the past in the running mean of the main person's motion
MAX_PREDICTED_FRAMES = 5  # a motion is extrapolated no further than this


class PoseBackend(Protocol):
    """The two ways of looking at a frame; a fake one in tests."""

    def track(self, frame: np.ndarray) -> PoseDetection | None:
        """Return the person followed from the frame before, else whoever is found."""

    def restart(self, frame: np.ndarray | None = None, box: np.ndarray | None = None) -> None:
        """Forget who was followed; with ``box`` (4,) px, follow whoever is in that part of ``frame``."""

    def look(self, frame: np.ndarray, box: np.ndarray, mirrored: bool) -> PoseDetection | None:
        """Return the person in ``box`` (4,) px of ``frame``, without any memory."""


class SinglePersonTracker:
    """Keeps to one person. ``step`` is the state machine of the module's docstring; needs no mediapipe.

    Attributes:
        events: How often: "cut", "jump" (an impossible motion), "loss" (no pose), "repair" (either, found again by
            looking), "ghost" (a tracked pose that fresh looks do not confirm), "stranger" (a find not confirmed).
    """

    def __init__(self, backend: PoseBackend) -> None:
        self.events: Counter[str] = Counter()
        self._backend = backend
        self._cuts = ShotBoundaryDetector()
        self._main: PoseDetection | None = None
        self._drift = np.zeros(2)  # the main person's motion [px per frame]
        self._missing = 0  # frames since he was last found
        self._unaudited = 0  # frames since the last fresh look that found him
        self._strikes = 0  # fresh looks since then that found nobody

    def step(self, frame: np.ndarray) -> PoseDetection | None:
        """Return the main person in the next ``frame``, None where there is nobody."""
        if self._cuts.is_cut(frame):
            self._note("cut")
            self._backend.restart()
            self._forget()
        seen = self._backend.track(frame)
        if self._main is None:
            found = self._welcome(frame, seen)
        elif seen is not None and self._is_main(seen):
            found = seen if self._passes_audit(frame, seen) else None
        else:
            self._note("loss" if seen is None else "jump")
            found = self._search(frame)
        self._remember(frame, found)
        return found

    def _welcome(self, frame: np.ndarray, seen: PoseDetection | None) -> PoseDetection | None:
        """Return ``seen`` if it is a person; otherwise make the tracker search again in the next frame."""
        if seen is None or self._is_confirmed(frame, seen):
            return seen
        self._note("stranger")
        self._backend.restart()
        return None

    def _is_main(self, seen: PoseDetection) -> bool:
        """Return whether the main person can have moved to ``seen`` since he was last found."""
        return self._strain(seen) <= 1

    def _strain(self, seen: PoseDetection) -> float:
        assert self._main is not None
        return motion_strain(self._main.keypoints, seen.keypoints, self._missing + 1, self._drift)

    def _passes_audit(self, frame: np.ndarray, seen: PoseDetection) -> bool:
        """Return False once fresh looks in several frames in a row find nobody where the main person is tracked.

        A look that finds somebody else proves nothing: in a crowd, neighbors stand in the crop.
        """
        self._unaudited += AUDIT_FRAMES if self._strain(seen) > SUSPICIOUS_STRAIN else 1
        if self._unaudited < AUDIT_FRAMES:
            return True
        looks = self._fresh_looks(frame, seen)
        if None not in looks or agrees_with_any(seen, looks):
            self._unaudited = self._strikes = 0
            return True
        self._strikes += 1  # and look again in the next frame
        if self._strikes < MAX_STRIKES:
            return True
        self._note("ghost")
        self._backend.restart()
        self._unaudited = self._strikes = 0
        return False

    def _search(self, frame: np.ndarray) -> PoseDetection | None:
        """Return the main person from a look at where he should be, and let the tracker follow him from there."""
        assert self._main is not None
        elapsed = self._missing + 1
        ahead = self._drift * min(elapsed, MAX_PREDICTED_FRAMES)
        box = grow(self._main.box + np.tile(ahead, 2), min(0.25 + 0.05 * elapsed, 1.0))
        found = self._backend.look(frame, box, mirrored=False)
        if found is None or not self._is_main(found) or not self._is_confirmed(frame, found):
            return None
        self._note("repair")
        self._backend.restart(frame, grow(found.box, 0.25))
        return found

    def _is_confirmed(self, frame: np.ndarray, body: PoseDetection) -> bool:
        """Return whether a fresh look finds the same pose: people look alike in the mirror, hallucinations do not."""
        return agrees_with_any(body, self._fresh_looks(frame, body))

    def _fresh_looks(self, frame: np.ndarray, body: PoseDetection) -> list[PoseDetection | None]:
        """Return what looks without memory find at ``body``, up to the first that agrees."""
        looks: list[PoseDetection | None] = []
        for margin, mirrored in LOOKS:
            looks.append(self._backend.look(frame, grow(body.box, margin), mirrored))
            if agrees_with_any(body, looks):
                break
        return looks

    def _remember(self, frame: np.ndarray, found: PoseDetection | None) -> None:
        """Update the main person, his motion and how long he has been away."""
        if found is None:
            self._missing += 1
            if self._missing >= self._patience(*frame.shape[:2]):
                self._forget()
            return
        if self._main is not None:
            move = (body_center(found.keypoints) - body_center(self._main.keypoints)) / (self._missing + 1)
            self._drift = DRIFT_MEMORY * self._drift + (1 - DRIFT_MEMORY) * move
        self._main, self._missing = found, 0

    def _patience(self, height: int, width: int) -> int:
        """Return for how many frames the main person is looked for."""
        if self._main is None:
            return 0
        x, y = (body_center(self._main.keypoints) + self._drift * MAX_PREDICTED_FRAMES) / (width, height)
        has_left = min(x, y, 1 - x, 1 - y) < BORDER
        return LEFT_PATIENCE_FRAMES if has_left else PATIENCE_FRAMES

    def _forget(self) -> None:
        self._main = None
        self._drift = np.zeros(2)
        self._missing = self._unaudited = self._strikes = 0

    def _note(self, event: str) -> None:
        self.events[event] += 1


def grow(box: np.ndarray, margin: float) -> np.ndarray:
    """Return box (4,) enlarged on every side by ``margin`` times its longer side."""
    pad = margin * float(max(box[2] - box[0], box[3] - box[1]))
    return box + np.array([-pad, -pad, pad, pad])


def disagreement(first: np.ndarray, second: np.ndarray) -> float:
    """Return the median joint distance of keypoints (17, 2) [body sizes]; which side is left does not matter."""
    straight, swapped = (
        float(np.median(np.linalg.norm((first - other)[BODY], axis=1))) for other in (second, second[MIRRORED])
    )
    return min(straight, swapped) / body_size(first)


def agrees_with_any(body: PoseDetection, looks: list[PoseDetection | None]) -> bool:
    """Return whether one of the looks found the pose of ``body``."""
    return any(look is not None and disagreement(body.keypoints, look.keypoints) <= MAX_DISAGREEMENT for look in looks)
