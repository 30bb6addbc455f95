"""MediaPipe Pose as a detector: frames -> ``People``, no download.

By itself it follows one person (``detectors.follower``); with a network that finds boxes it sees everybody
(``detectors.per_box``). Its own networks are in ``detectors.blazepose``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from detectors.between import boxed_frames
from detectors.blazepose import BLANK, Landmarker, look, model_files, num_threads, person_finder
from detectors.body import BODY
from detectors.boxes import BoxNetwork, batches, load_boxes
from detectors.checkpoints import sha256_of
from detectors.follower import Body, Follower, grow
from detectors.people import People
from detectors.per_box import BOX_MARGIN, PerBox
from detectors.prefetch import prefetch

logger = logging.getLogger(__name__)


class MediaPipeEyes:
    """MediaPipe itself: one instance that tracks and one without memory."""

    def __init__(self) -> None:
        threads = num_threads()
        self._tracker = person_finder(is_video=True, num_threads=threads)
        self._looker = person_finder(is_video=False, num_threads=threads)

    def track(self, frame: np.ndarray) -> Body | None:
        """See ``Eyes``."""
        height, width = frame.shape[:2]
        return look(self._tracker, frame, (0, 0, width, height), mirrored=False)

    def restart(self, frame: np.ndarray | None = None, box: np.ndarray | None = None) -> None:
        """See ``Eyes``. A blank picture makes MediaPipe lose its target in 15 ms; its reset() takes 130 ms."""
        self._tracker.process({"image": BLANK})
        if frame is not None and box is not None:
            x0, y0, x1, y1 = clip(box, *frame.shape[:2])
            masked = np.zeros_like(frame)
            masked[y0:y1, x0:x1] = frame[y0:y1, x0:x1]
            self._tracker.process({"image": masked})

    def look(self, frame: np.ndarray, box: np.ndarray, mirrored: bool) -> Body | None:
        """See ``Eyes``."""
        return look(self._looker, frame, clip(box, *frame.shape[:2]), mirrored)

    def close(self) -> None:
        """Free the graphs."""
        self._tracker.close()
        self._looker.close()


def clip(box: np.ndarray, height: int, width: int) -> tuple[int, int, int, int]:
    """Return box (4,) as whole pixels x0, y0, x1, y1 (x1 and y1 exclusive) inside the picture."""
    x0, x1 = np.clip([np.floor(box[0]), np.ceil(box[2]) + 1], 0, width).astype(int)
    y0, y1 = np.clip([np.floor(box[1]), np.ceil(box[3]) + 1], 0, height).astype(int)
    return int(x0), int(y0), int(x1), int(y1)


def to_people(body: Body | None, height: int, width: int) -> People:
    """Return a frame with this one person, or nobody; the box has a margin and lies inside the picture."""
    if body is None:
        return People.nobody()
    limits = np.array([width - 1, height - 1, width - 1, height - 1], np.float32)
    box = np.clip(grow(body.box, BOX_MARGIN), 0, limits).astype(np.float32)
    score = body.scores[BODY].mean(dtype=np.float32)
    return People(box[None], np.array([score], np.float32), body.keypoints[None], body.scores[None])


class MediaPipeDetector:
    """Frames -> ``People``, one person; every call is a new video.

    Attributes:
        provenance: ``detector``, ``version`` of mediapipe, ``weights``: file name -> SHA-256, ``boxes``.
    """

    def __init__(self, provenance: dict[str, Any]) -> None:
        self.provenance = {**provenance, "boxes": "none: one person"}

    def __call__(self, frames: Iterable[np.ndarray], /) -> Iterator[People]:
        """Yield one People per frame, with one person or nobody.

        Args:
            frames: RGB uint8 pictures (H, W, 3) in order; all of one size.

        Raises:
            ValueError: A frame has another shape or dtype.
        """
        eyes = MediaPipeEyes()
        follower = Follower(eyes)
        try:
            for frame in frames:
                if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
                    raise ValueError(f"frames must be uint8 of shape (H, W, 3), got {frame.dtype} {frame.shape}")
                yield to_people(follower.step(frame), *frame.shape[:2])
            logger.info("mediapipe: %s", dict(follower.events) or "no jumps")
        finally:
            eyes.close()


class MediaPipePerBox:
    """Frames -> ``People``, everybody whom a network finds boxes of; every call is a new video.

    Attributes:
        provenance: ``detector``, ``version`` of mediapipe, ``weights``: file name -> SHA-256, ``boxes``: the file that
            they come from.
        detect_every: That network looks at every so many frames, see ``detectors.between``; MediaPipe at all.
    """

    def __init__(self, find: BoxNetwork, provenance: dict[str, Any]) -> None:
        self.provenance = provenance
        self.detect_every = 1
        self._find = find
        self._landmarker = Landmarker()

    def __call__(self, frames: Iterable[np.ndarray], /) -> Iterator[People]:
        """Yield one People per RGB uint8 frame (H, W, 3).

        Boxes of the next frames are looked for, in a thread, while keypoints of this one are read.
        """
        everybody = PerBox(self._landmarker)
        for frame, people in prefetch(boxed_frames(batches(frames), self._find, self.detect_every)):
            yield everybody.step(frame, people)


def build(weights: Sequence[Path] = (), device: str = "cpu") -> MediaPipeDetector | MediaPipePerBox:
    """Return the detector.

    Args:
        weights: Nothing, or one file: a network that finds boxes of people. MediaPipe carries its own models.
        device: Where that network runs; MediaPipe runs on the CPU.

    Raises:
        ValueError: Not the weights of such a network.
        RuntimeError: mediapipe is installed without its models, or the package for the boxes is missing.
    """
    models = {path.name: sha256_of(path) for path in model_files()}
    provenance = {"detector": "mediapipe", "version": version("mediapipe"), "weights": models}
    if not weights:
        return MediaPipeDetector(provenance)
    (path,) = weights
    find, digest = load_boxes(path, device)
    return MediaPipePerBox(find, {**provenance, "weights": {**models, path.name: digest}, "boxes": path.name})
