"""MediaPipe Pose as a detector: frames -> ``People``; it runs without any download.

By itself it follows one person (``detectors.blazepose.single_person``); with a network that finds boxes it sees
everybody (``detectors.blazepose.multi_person``). Its own networks are in ``detectors.blazepose.networks``; that of
the landmarks can be another file.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from checkpoints import downloads, sha256_of
from detectors.blazepose.multi_person import BOX_MARGIN, MultiPersonPose
from detectors.blazepose.networks import BLANK, Landmarker, look, model_files, num_threads, person_finder
from detectors.blazepose.single_person import SinglePersonTracker, grow
from detectors.blazepose.types import PoseDetection
from detectors.boxes.interpolation import boxed_frames
from detectors.boxes.load import batches, load_boxes
from detectors.boxes.types import BoxNetwork
from detectors.people import People
from detectors.pose_geometry import BODY
from detectors.prefetch import prefetch
from detectors.registry import LANDMARKS_SUFFIX

logger = logging.getLogger(__name__)


class MediaPipeBackend:
    """MediaPipe itself: one instance that tracks and one without memory.

    Args:
        landmarks: File of the landmark network, None for the package's own.
    """

    def __init__(self, landmarks: Path | None = None) -> None:
        threads = num_threads()
        self._tracker = person_finder(is_video=True, num_threads=threads, landmarks=landmarks)
        self._looker = person_finder(is_video=False, num_threads=threads, landmarks=landmarks)

    def track(self, frame: np.ndarray) -> PoseDetection | None:
        """See ``PoseBackend``."""
        height, width = frame.shape[:2]
        return look(self._tracker, frame, (0, 0, width, height), mirrored=False)

    def restart(self, frame: np.ndarray | None = None, box: np.ndarray | None = None) -> None:
        """See ``PoseBackend``. A blank picture makes MediaPipe lose its target in 15 ms; its reset() takes 130 ms."""
        self._tracker.process({"image": BLANK})
        if frame is not None and box is not None:
            x0, y0, x1, y1 = clip(box, *frame.shape[:2])
            masked = np.zeros_like(frame)
            masked[y0:y1, x0:x1] = frame[y0:y1, x0:x1]
            self._tracker.process({"image": masked})

    def look(self, frame: np.ndarray, box: np.ndarray, mirrored: bool) -> PoseDetection | None:
        """See ``PoseBackend``."""
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


def to_people(body: PoseDetection | None, height: int, width: int) -> People:
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

    def __init__(self, provenance: dict[str, Any], landmarks: Path | None = None) -> None:
        self.provenance = {**provenance, "boxes": "none: one person"}
        self._landmarks = landmarks

    def __call__(self, frames: Iterable[np.ndarray], /) -> Iterator[People]:
        """Yield one People per frame, with one person or nobody.

        Args:
            frames: RGB uint8 pictures (H, W, 3) in order; all of one size.

        Raises:
            ValueError: A frame has another shape or dtype.
        """
        eyes = MediaPipeBackend(self._landmarks)
        follower = SinglePersonTracker(eyes)
        try:
            for frame in frames:
                if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
                    raise ValueError(f"frames must be uint8 of shape (H, W, 3), got {frame.dtype} {frame.shape}")
                yield to_people(follower.step(frame), *frame.shape[:2])
            logger.info("mediapipe: %s", dict(follower.events) or "no jumps")
        finally:
            eyes.close()


class MediaPipeMultiPerson:
    """Frames -> ``People``, everybody whom a network finds boxes of; every call is a new video.

    Attributes:
        provenance: ``detector``, ``version`` of mediapipe, ``weights``: file name -> SHA-256, ``boxes``: the file that
            they come from.
        detection_interval: That network looks at every so many frames, see ``detectors.boxes.interpolation``;
            MediaPipe at all.
    """

    def __init__(self, find: BoxNetwork, provenance: dict[str, Any], landmarks: Path | None = None) -> None:
        self.provenance = provenance
        self.detection_interval = 1
        self._find = find
        self._landmarker = Landmarker(landmarks)

    def __call__(self, frames: Iterable[np.ndarray], /) -> Iterator[People]:
        """Yield one People per RGB uint8 frame (H, W, 3).

        Boxes of the next frames are looked for, in a thread, while keypoints of this one are read.
        """
        everybody = MultiPersonPose(self._landmarker)
        for frame, people in prefetch(boxed_frames(batches(frames), self._find, self.detection_interval)):
            yield everybody.step(frame, people)


def build(weights: Sequence[Path] = (), device: str = "cpu") -> MediaPipeDetector | MediaPipeMultiPerson:
    """Return the detector.

    Args:
        weights: At most one network of each kind: a ``.tflite`` for the landmarks, in place of the one that MediaPipe
            carries, and any other file for boxes of people.
        device: Where the network for boxes runs; MediaPipe runs on the CPU.

    Raises:
        ValueError: Not the weights of such a network.
        RuntimeError: mediapipe is installed without its models, or the package for the boxes is missing.
    """
    landmarks = next((path for path in weights if path.suffix.lower() == LANDMARKS_SUFFIX), None)
    boxes = next((path for path in weights if path != landmarks), None)
    models = {path.name: sha256_of(path) for path in model_files(landmarks)}
    if landmarks is not None:
        require_known(landmarks, models[landmarks.name])
    provenance = {"detector": "mediapipe", "version": version("mediapipe"), "weights": models}
    if boxes is None:
        return MediaPipeDetector(provenance, landmarks)
    find, digest = load_boxes(boxes, device)
    provenance |= {"weights": {**models, boxes.name: digest}, "boxes": boxes.name}
    return MediaPipeMultiPerson(find, provenance, landmarks)


def require_known(landmarks: Path, digest: str) -> None:
    """Raise ValueError unless the file is a landmark network of the manifest, or the package's own.

    MediaPipe crashes the whole process on a network that is cut short (measured), so that it cannot be left to tell.
    """
    known = [entry for entry in downloads("detector").values() if entry.file.endswith(LANDMARKS_SUFFIX)]
    if any(entry.matches(digest) for entry in known) or digest == sha256_of(model_files()[-1]):
        return
    names = " or ".join(entry.name for entry in known)
    raise ValueError(
        f"{landmarks} (SHA-256 {digest}) is none of MediaPipe's pose landmark networks, or it is damaged; others are "
        f"not loaded, for they can crash MediaPipe: posemamba fetch {names}"
    )
