"""The detector ``yolo-hrnet``: boxes of people by YOLO, keypoints of each by HRNet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from detectors import hrnet, yolo
from detectors.boxes import batches
from detectors.people import People
from detectors.topdown import PoseEstimator
from detectors.weights import read_weights


class YoloHRNet:
    """Frames -> ``People``, several per frame.

    Attributes:
        provenance: ``detector``, ``version`` of ultralytics, ``weights``: file name -> SHA-256, input of HRNet.
    """

    def __init__(self, find: yolo.Yolo, pose: PoseEstimator, provenance: dict[str, Any]) -> None:
        self.provenance = provenance
        self._find = find
        self._pose = pose

    def __call__(self, frames: Iterable[np.ndarray], /) -> Iterator[People]:
        """Yield one People per RGB uint8 frame (H, W, 3); frames are streamed in small batches."""
        for batch in batches(frames):
            seen = self._find(batch)
            poses = self._pose(batch, [people.boxes for people in seen])
            for people, (keypoints, scores) in zip(seen, poses, strict=True):
                yield People(people.boxes, people.scores, keypoints, scores)


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
    provenance = {
        "detector": "yolo-hrnet",
        "version": version("ultralytics"),
        "weights": {read.path.name: read.sha256 for read in (boxes, keypoints)},
        "crop": f"{size[0]}x{size[1]}, mirrored average, DARK",
    }
    return YoloHRNet(yolo.load(boxes, device), PoseEstimator(network, size, device), provenance)
