"""Boxes of people in frames: what networks for them answer (``Seen``), batches of frames, and who reads which file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np

FRAMES_PER_BATCH = 8  # that are taken at once
MAX_PEOPLE = 30  # per frame, the most certain ones


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """The people in one frame, most certain first.

    Attributes:
        boxes: (N, 4) float32 x0 y0 x1 y1 px, inside the picture.
        scores: (N,) float32 in [0, 1].
        keypoints: (N, 17, 3) float32 x and y in px, score in [0, 1]; None for networks that only find boxes.
        is_look: False if no network looked at this frame and the boxes are supposed (``detectors.between``).
    """

    boxes: np.ndarray
    scores: np.ndarray
    keypoints: np.ndarray | None = None
    is_look: bool = True


class BoxNetwork(Protocol):
    """A network that finds people: ``detectors.yolo.Yolo`` or ``detectors.yolox.YoloX``."""

    def __call__(self, frames: Sequence[np.ndarray], /) -> list[Seen]:
        """Return one ``Seen`` per RGB uint8 frame (H, W, 3); all frames have one size."""


def load_boxes(path: Path, device: str = "cpu") -> tuple[BoxNetwork, str]:
    """Return the network in a file and the file's SHA-256.

    Args:
        path: ``.onnx`` is a YOLOX, which runs on the CPU; everything else is read by ``detectors.yolo``.
        device: "cpu", "cuda", "cuda:1", ...

    Raises:
        ValueError: Not the weights of such a network.
        RuntimeError: The package that builds it is not installed.
    """
    if path.suffix.lower() == ".onnx":
        from detectors import yolox

        return yolox.load(path)
    if find_spec("ultralytics") is None:
        raise RuntimeError(
            f"{path} needs the package ultralytics: in the checkout, pip install -e '.[yolo]'; "
            "without it, posemamba fetch yolox-nano"
        )
    from detectors import yolo
    from detectors.weights import read_weights

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
