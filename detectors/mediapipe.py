"""MediaPipe Pose as a detector: frames -> ``People``; it runs without any download.

By itself it finds everybody with the person detector of the package (``detectors.blazepose.multi_person_tracker``), or
boxes come from another network (``detectors.blazepose.poses_in_boxes``). The networks are in
``detectors.blazepose.networks``; that of the landmarks can be another file.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from checkpoints import downloads, sha256_of
from detectors.blazepose.landmarker_pool import LandmarkerPool
from detectors.blazepose.multi_person_tracker import MultiPersonTracker
from detectors.blazepose.networks import Landmarker, PersonDetector, model_files
from detectors.blazepose.poses_in_boxes import MultiPersonPose
from detectors.boxes.batches import batches, require_rgb
from detectors.boxes.interpolation import boxed_frames
from detectors.boxes.load import load_boxes
from detectors.boxes.types import BoxNetwork
from detectors.people import People
from detectors.prefetch import prefetch
from detectors.registry import LANDMARKS_SUFFIX

logger = logging.getLogger(__name__)


class MediaPipeDetector:
    """Frames -> ``People``: everybody whom MediaPipe's own person detector finds; every call is a new video.

    Attributes:
        provenance: ``detector``, ``version`` of mediapipe, ``weights``: file name -> SHA-256, ``boxes``.
    """

    def __init__(self, provenance: dict[str, Any], landmarks: Path | None = None) -> None:
        self.provenance = {**provenance, "boxes": "mediapipe's person detector"}
        self._landmarks = landmarks

    def __call__(self, frames: Iterable[np.ndarray], /) -> Iterator[People]:
        """Yield one People per frame.

        Args:
            frames: RGB uint8 pictures (H, W, 3) in order; all of one size.

        Raises:
            ValueError: A frame has another shape or dtype.
        """
        look, find = LandmarkerPool(self._landmarks), PersonDetector()
        tracker = MultiPersonTracker(look, find)
        try:
            yield from tracker(_checked(frames))
            logger.info("mediapipe: %s", dict(tracker.events))
        finally:
            look.close()
            find.close()


def _checked(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for frame in frames:
        require_rgb(frame)
        yield frame


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
