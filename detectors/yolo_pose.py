"""The detector ``yolo-pose``: a YOLO that finds boxes and keypoints at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from checkpoints.tensors import read_weights
from detectors.boxes import yolo
from detectors.boxes.batches import batches
from detectors.people import People


class YoloPose:
    """Frames -> ``People`` by a network that finds boxes and keypoints at once.

    Attributes:
        provenance: ``detector``, ``version`` of ultralytics, ``weights``: file name -> SHA-256.
    """

    def __init__(self, network: yolo.Yolo, provenance: dict[str, Any]) -> None:
        self.provenance = provenance
        self._network = network

    def __call__(self, frames: Iterable[np.ndarray], /) -> Iterator[People]:
        """Yield one People per RGB uint8 frame (H, W, 3)."""
        for batch in batches(frames):
            for seen in self._network(batch):
                assert seen.keypoints is not None
                points = np.ascontiguousarray(seen.keypoints[..., :2])
                yield People(seen.boxes, seen.scores, points, np.ascontiguousarray(seen.keypoints[..., 2]))


def build(weights: Sequence[Path], device: str = "cpu") -> YoloPose:
    """Return the detector ``yolo-pose``.

    Args:
        weights: One file of a pose network: published ``.pt`` or our safetensors.
        device: "cpu", "cuda", "cuda:1", ...

    Raises:
        ValueError: Not the weights of such a network.
    """
    (path,) = weights
    read = read_weights(path)
    network = yolo.load(read, device)
    if not network.has_keypoints:
        raise ValueError(f"{path} is a {network.name}, which finds boxes only; yolo-pose needs a -pose network")
    return YoloPose(network, {"detector": "yolo-pose", "version": version("ultralytics"),
                              "weights": {path.name: read.sha256}})  # fmt: skip
