"""Networks that find boxes of people, loaded from files, and the batches of frames they take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from detectors.boxes.types import BoxNetwork

FRAMES_PER_BATCH = 8  # that are taken at once
MAX_PEOPLE = 30  # per frame, the most certain ones


def load_boxes(path: Path, device: str = "cpu") -> tuple[BoxNetwork, str]:
    """Return the network in a file and the file's SHA-256.

    Args:
        path: ``.onnx`` is a YOLOX, which runs on the CPU; everything else is read by ``detectors.boxes.yolo``.
        device: "cpu", "cuda", "cuda:1", ...

    Raises:
        ValueError: Not the weights of such a network.
        RuntimeError: The package that builds it is not installed.
    """
    if path.suffix.lower() == ".onnx":
        from detectors.boxes import yolox

        return yolox.load(path)
    if find_spec("ultralytics") is None:
        raise RuntimeError(
            f"{path} needs the package ultralytics: in the checkout, pip install -e '.[yolo]'; "
            "without it, posemamba fetch yolox-nano"
        )
    from checkpoints.tensors import read_weights
    from detectors.boxes import yolo

    weights = read_weights(path)
    return yolo.load(weights, device), weights.sha256


def batches(frames: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Yield the frames in order, up to ``FRAMES_PER_BATCH`` of one size together.

    Raises:
        ValueError: A frame has another shape or dtype than RGB uint8.
    """
    batch: list[np.ndarray] = []
    for frame in frames:
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise ValueError(f"frames must be uint8 of shape (H, W, 3), got {frame.dtype} {frame.shape}")
        if batch and (len(batch) == FRAMES_PER_BATCH or batch[0].shape != frame.shape):
            yield batch
            batch = []
        batch.append(frame)
    if batch:
        yield batch
