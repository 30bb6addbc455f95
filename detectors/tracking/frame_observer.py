"""``FrameObserver`` reads the frames on their way to a detector: cuts, appearance of people, camera motion."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np

from detectors.people import People
from detectors.shot_boundaries import ShotBoundaryDetector
from detectors.tracking.appearance import appearance_of
from detectors.tracking.camera_motion import CameraMotion


class FrameObserver:
    """What tracking wants to know of the pictures of one video.

    Around a detector: ``people = list(observer.note(detector(observer.watch(frames))))``. Frames are streamed once;
    only those are held that the detector has taken and not answered yet, at most one batch.

    Attributes:
        cuts: Frames that begin a new shot.
        appearance: One (N, 42) float32 array per frame, N as in the frame's ``People``; see
            ``detectors.tracking.appearance``.
        cameras: What is known of the camera's motion, by first frame of every shot.
    """

    def __init__(self) -> None:
        self.cuts: list[int] = []
        self.appearance: list[np.ndarray] = []
        self.cameras: dict[int, CameraMotion] = {0: CameraMotion()}
        self._cut_detector = ShotBoundaryDetector()
        self._num_watched = 0
        self._unanswered: deque[np.ndarray] = deque()

    def watch(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield RGB uint8 ``frames`` (H, W, 3) unchanged."""
        for frame in frames:
            if self._cut_detector.is_cut(frame):
                self.cuts.append(self._num_watched)
            self._num_watched += 1
            self._unanswered.append(frame)
            yield frame

    def note(self, people: Iterable[People]) -> Iterator[People]:
        """Yield ``people`` unchanged, one per watched frame."""
        for present in people:
            frame, number = self._unanswered.popleft(), len(self.appearance)
            if number in self.cuts:
                self.cameras[number] = CameraMotion()
            self.cameras[max(self.cameras)].see(frame, present.boxes)
            self.appearance.append(appearance_of(frame, present))
            yield present
