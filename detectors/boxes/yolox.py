"""YOLOX-nano: boxes of people on a CPU without PyTorch or AGPL, run by OpenCV.

    picture    scaled to fit 416 x 416, at the top left, gray (114) elsewhere; BGR, 0 to 255
    answer     one row per cell of three grids (strides 8, 16, 32): center, size, is it a thing, 80 classes

Source: Ge et al., YOLOX: Exceeding YOLO Series in 2021; Megvii-BaseDetection/YOLOX, yolox/utils/demo_utils.py and
yolox/data/data_augment.py. Own code.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from checkpoints import sha256_of
from detectors.boxes.load import MAX_PEOPLE
from detectors.boxes.types import BoxDetections

SIDE = 416  # of the network's picture [px]
STRIDES = (8, 16, 32)
GRAY = 114
PERSON = 0  # class 0 of COCO
MIN_SCORE = 0.3  # published default of the demo
MAX_OVERLAP = 0.65  # intersection over union of two people; published default of the evaluation
CELLS = np.concatenate([np.stack(np.meshgrid(*[np.arange(SIDE // s)] * 2), -1).reshape(-1, 2) for s in STRIDES])
STEPS = np.repeat(STRIDES, [(SIDE // s) ** 2 for s in STRIDES])[:, None]  # (3549, 1) stride of every cell
MAX_LOG_SIZE = 10.0  # of a box [strides]: exp() of nonsense must not overflow


class YoloX:
    """A batch of frames -> what is ``BoxDetections`` in each."""

    def __init__(self, network: cv2.dnn.Net) -> None:
        self._network = network

    def __call__(self, frames: Sequence[np.ndarray], /) -> list[BoxDetections]:
        """Return one ``BoxDetections`` per RGB uint8 frame (H, W, 3)."""
        return [self._look(frame) for frame in frames]

    def _look(self, frame: np.ndarray) -> BoxDetections:
        height, width = frame.shape[:2]
        picture, scale = pack(frame)
        self._network.setInput(cv2.dnn.blobFromImage(picture, swapRB=True))
        boxes, scores = people_in(self._network.forward()[0])
        boxes = boxes / np.tile(scale, 2) - 0.5  # edges of pixels are counted from 0, centers here
        limits = [width - 1, height - 1]
        return BoxDetections(boxes.clip(0, limits + limits).astype(np.float32), scores.astype(np.float32))


def pack(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the picture (416, 416, 3) as the network sees it, and its scales of x and y."""
    height, width = frame.shape[:2]
    ratio = SIDE / max(height, width)
    inner = max(1, round(width * ratio)), max(1, round(height * ratio))
    packed = np.full((SIDE, SIDE, 3), GRAY, np.uint8)
    packed[: inner[1], : inner[0]] = cv2.resize(frame, inner, interpolation=cv2.INTER_LINEAR)
    return packed, np.array(inner) / (width, height)


def people_in(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes (N, 4) x0 y0 x1 y1 in pixels of the network's picture and scores (N,), most certain first.

    Only what looks more like a person than like any other class is one.

    Args:
        rows: (3549, 85) answer of the network.
    """
    scores = rows[:, 4] * rows[:, 5 + PERSON]
    is_person = (rows[:, 5:].argmax(axis=1) == PERSON) & (scores >= MIN_SCORE)  # NaN is nobody
    scores, rows = scores[is_person], rows[is_person]
    centers = (rows[:, :2] + CELLS[is_person]) * STEPS[is_person]
    sizes = np.exp(rows[:, 2:4].clip(max=MAX_LOG_SIZE)) * STEPS[is_person]
    corners = centers - sizes / 2
    kept = cv2.dnn.NMSBoxes(np.hstack([corners, sizes]).tolist(), scores.tolist(), MIN_SCORE, MAX_OVERLAP)
    best = np.asarray(kept, np.int64).reshape(-1)[:MAX_PEOPLE]
    return np.hstack([corners, corners + sizes])[best], scores[best]


def load(path: Path) -> tuple[YoloX, str]:
    """Return the network in an ONNX file and the file's SHA-256.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not a YOLOX for 416 x 416 pictures and the 80 classes of COCO.
    """
    content = path.read_bytes()
    try:
        network = cv2.dnn.readNetFromONNX(np.frombuffer(content, np.uint8))
        network.setInput(np.zeros((1, 3, SIDE, SIDE), np.float32))
        shape = network.forward().shape
    except cv2.error as error:
        raise ValueError(f"{path} is no network that OpenCV can run ({error.err}); expected a YOLOX-nano") from error
    if shape != (1, len(CELLS), 85):
        raise ValueError(f"{path} answers {shape}, expected (1, {len(CELLS)}, 85): YOLOX for 416 x 416 pictures, COCO")
    return YoloX(network), sha256_of(path)
