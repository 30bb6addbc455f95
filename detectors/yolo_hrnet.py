"""The detector ``yolo-hrnet``: boxes of people by YOLO, keypoints of each by HRNet."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from checkpoints.tensors import read_weights
from detectors.boxes import yolo
from detectors.boxes.batches import FRAMES_PER_BATCH, batches
from detectors.boxes.interpolation import boxed_frames
from detectors.boxes.types import BoxDetections
from detectors.keypoints import hrnet
from detectors.keypoints.topdown import PoseEstimator
from detectors.people import People
from detectors.prefetch import prefetch


class YoloHRNet:
    """Frames -> ``People``, several per frame.

    Attributes:
        provenance: ``detector``, ``version`` of ultralytics, ``weights``: file name -> SHA-256, input of HRNet.
        detection_interval: YOLO looks at every so many frames, see ``detectors.boxes.interpolation``; HRNet at all.
        use_flip: Whether HRNet's answer is averaged with that for the mirrored crop: twice its work.
    """

    def __init__(self, find: yolo.Yolo, pose: PoseEstimator, provenance: dict[str, Any]) -> None:
        self.provenance = provenance
        self.detection_interval = 1
        self._find = find
        self._pose = pose

    @property
    def use_flip(self) -> bool:
        """See above; recorded in the provenance."""
        return self._pose.use_flip

    @use_flip.setter
    def use_flip(self, value: bool) -> None:
        self._pose.use_flip = value
        self.provenance = {**self.provenance, "crop": _crop(self._pose)}

    def __call__(self, frames: Iterable[np.ndarray], /) -> Iterator[People]:
        """Yield one People per RGB uint8 frame (H, W, 3); frames are streamed in small batches.

        Boxes of the next batch are looked for, in a thread, while keypoints of this one are read.
        """
        boxed = boxed_frames(batches(frames), self._find, self.detection_interval)
        for batch in prefetch(_grouped(boxed), ahead=1):
            poses = self._pose([frame for frame, _ in batch], [people.boxes for _, people in batch])
            for (_, boxes), (keypoints, scores) in zip(batch, poses, strict=True):
                yield boxes.with_keypoints(keypoints, scores)


def _grouped(boxed: Iterable[tuple[np.ndarray, BoxDetections]]) -> Iterator[list[tuple[np.ndarray, BoxDetections]]]:
    """Yield frames with their boxes in lists of ``FRAMES_PER_BATCH``."""
    items = iter(boxed)
    while batch := list(itertools.islice(items, FRAMES_PER_BATCH)):
        yield batch


def _crop(pose: PoseEstimator) -> str:
    return f"{pose.size[0]}x{pose.size[1]}, {'mirrored average, ' if pose.use_flip else ''}DARK"


def build(weights: Sequence[Path], device: str = "cpu") -> YoloHRNet:
    """Return the detector.

    Args:
        weights: Two files: a YOLO network for boxes, then an HRNet for keypoints.
        device: "cpu", "cuda", "cuda:1", ...

    Raises:
        ValueError: Not the weights of such networks.
    """
    boxes, keypoints = (read_weights(path) for path in weights)
    network, size = hrnet.from_weights(keypoints)
    pose = PoseEstimator(network, size, device)
    provenance = {
        "detector": "yolo-hrnet",
        "version": version("ultralytics"),
        "weights": {read.path.name: read.sha256 for read in (boxes, keypoints)},
        "crop": _crop(pose),
    }
    return YoloHRNet(yolo.load(boxes, device), pose, provenance)
