"""Networks that find boxes of people, loaded from files."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from detectors.boxes.types import BoxNetwork


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
