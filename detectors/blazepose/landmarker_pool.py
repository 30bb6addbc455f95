"""Landmarks of several people of a frame at once, each on a core of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

import cv2
import numpy as np

from detectors.blazepose.networks import Landmarker, num_threads
from detectors.blazepose.types import PoseDetection, RotatedRoi
from detectors.pose_geometry import MIRRORED

Answer = tuple[PoseDetection, RotatedRoi] | None


class LandmarkerPool:
    """Looks at one region with all threads, at several with one thread each.

    Args:
        landmarks: File of the landmark network, None for the package's own.
    """

    def __init__(self, landmarks: Path | None = None) -> None:
        self._landmarks = landmarks
        self._alone = Landmarker(landmarks)
        self._num_workers = 1 if os.environ.get("OMP_NUM_THREADS") == "1" else os.cpu_count() or 1
        self._workers: SimpleQueue[Landmarker] = SimpleQueue()
        if num_threads() == 1:
            self._workers.put(self._alone)
        self._num_started = self._workers.qsize()
        self._executor = ThreadPoolExecutor(self._num_workers, "landmarks")

    def __call__(self, frame: np.ndarray, regions: Sequence[RotatedRoi], is_mirrored: bool) -> list[Answer]:
        """Return per region of ``frame`` (H, W, 3) the body there and the region that fits it, None if nobody is there.

        Args:
            frame: RGB uint8.
            regions: Where to look.
            is_mirrored: Whether to look at the mirror image; the answers are in pixels of the frame all the same.
        """
        if not regions:
            return []
        width = frame.shape[1]
        if is_mirrored:
            frame = cv2.flip(frame, 1)
            regions = [mirrored_region(region, width) for region in regions]
        if len(regions) == 1 or self._num_workers == 1:
            answers = [self._alone(frame, region) for region in regions]
        else:
            self._start(min(len(regions), self._num_workers))
            answers = list(self._executor.map(lambda region: self._on_a_worker(frame, region), regions))
        return [mirrored_answer(answer, width) for answer in answers] if is_mirrored else answers

    def _start(self, count: int) -> None:
        while self._num_started < count:
            self._workers.put(Landmarker(self._landmarks, threads=1))
            self._num_started += 1

    def _on_a_worker(self, frame: np.ndarray, region: RotatedRoi) -> Answer:
        landmarker = self._workers.get()
        try:
            return landmarker(frame, region)
        finally:
            self._workers.put(landmarker)

    def close(self) -> None:
        """Free threads and graphs."""
        self._executor.shutdown()
        graphs = {id(self._alone): self._alone}
        while not self._workers.empty():
            graphs |= {id(graph): graph for graph in [self._workers.get()]}
        for graph in graphs.values():
            graph.close()


def mirrored_region(region: RotatedRoi, width: int) -> RotatedRoi:
    """Return where a region is in the mirror image of a picture of ``width`` px."""
    return replace(region, x=width - 1 - region.x, angle=-region.angle)


def mirrored_answer(answer: Answer, width: int) -> Answer:
    """Return what was seen in the mirror image of a picture of ``width`` px, in the picture."""
    if answer is None:
        return None
    body, region = answer
    keypoints = body.keypoints[MIRRORED].copy()
    keypoints[:, 0] = width - 1 - keypoints[:, 0]
    return PoseDetection(keypoints, body.scores[MIRRORED]), mirrored_region(region, width)
