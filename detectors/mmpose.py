"""MMPose as a detector: boxes by one of our networks, keypoints by any of MMPose's COCO top-down models.

For those who have MMPose installed (docs/mmpose.md) and want its models, or its very numbers. A published file begins
with the name of its configuration, td-hm_hrnet-w48_8xb32-210e_coco-384x288-c161b7de_20220915.pth, which is how that is
found inside the package. MMPose's own loader unpickles; weights come through ``checkpoints.tensors`` instead.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from checkpoints.tensors import Weights, read_weights
from detectors.boxes.batches import batches
from detectors.boxes.interpolation import boxed_frames
from detectors.boxes.load import load_boxes
from detectors.boxes.types import BoxNetwork
from detectors.people import NUM_KEYPOINTS, People
from detectors.strict_weights import require_fit

CONFIGS = ".mim/configs/body_2d_keypoint"  # inside the package
PEOPLE_PER_BATCH = 8


class MMPoseDetector:
    """Frames -> ``People``, several per frame.

    Attributes:
        provenance: ``detector``, ``version`` of mmpose, ``weights``: file name -> SHA-256, ``config``: of MMPose.
        detection_interval: The network for boxes looks at every so many frames, see
            ``detectors.boxes.interpolation``; MMPose at all.
    """

    def __init__(self, find: BoxNetwork, model: nn.Module, provenance: dict[str, Any]) -> None:
        self.provenance = provenance
        self.detection_interval = 1
        self._find = find
        self._model = model

    def __call__(self, frames: Iterable[np.ndarray], /) -> Iterator[People]:
        """Yield one People per RGB uint8 frame (H, W, 3); frames are streamed in small batches."""
        for frame, seen in boxed_frames(batches(frames), self._find, self.detection_interval):
            keypoints, scores = decode_heatmaps(self._model, frame, seen.boxes)
            yield seen.with_keypoints(keypoints, scores)


def decode_heatmaps(model: nn.Module, frame: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return keypoints (N, 17, 2) px and scores (N, 17) in [0, 1], float32, of the people in boxes (N, 4).

    Args:
        model: As ``load`` returns it.
        frame: (H, W, 3) uint8 RGB.
        boxes: (N, 4) x0 y0 x1 y1 px.
    """
    from mmpose.apis import inference_topdown

    people = []
    for first in range(0, len(boxes), PEOPLE_PER_BATCH):
        people += inference_topdown(model, frame[..., ::-1], boxes[first : first + PEOPLE_PER_BATCH])
    if not people:  # asked about no box, MMPose answers for the whole picture
        return np.zeros((0, NUM_KEYPOINTS, 2), np.float32), np.zeros((0, NUM_KEYPOINTS), np.float32)
    keypoints = np.concatenate([person.pred_instances.keypoints for person in people])
    scores = np.concatenate([person.pred_instances.keypoint_scores for person in people])
    return keypoints.astype(np.float32), scores.clip(0, 1).astype(np.float32)


def build(weights: Sequence[Path], device: str = "cpu") -> MMPoseDetector:
    """Return the detector.

    Args:
        weights: Two files: a network for boxes (``detectors.boxes.load``), then a checkpoint of MMPose.
        device: "cpu", "cuda", "cuda:1", ...

    Raises:
        ValueError: Not the weights of such networks.
        RuntimeError: MMPose is there, but does not import.
    """
    boxes, checkpoint = weights
    read = read_weights(checkpoint)
    config = config_of(checkpoint)
    find, digest = load_boxes(boxes, device)
    provenance = {
        "detector": "mmpose",
        "version": version("mmpose"),
        "weights": {boxes.name: digest, checkpoint.name: read.sha256},
        "config": config.name,
    }
    return MMPoseDetector(find, load(read, config, device), provenance)


def config_of(path: Path) -> Path:
    """Return the configuration inside MMPose that a checkpoint is named after.

    Raises:
        ValueError: There is none.
    """
    spec = find_spec("mmpose")
    assert spec is not None and spec.origin is not None
    known = sorted((Path(spec.origin).parent / CONFIGS).glob("*/coco/*.py"), key=lambda config: len(config.stem))
    named = [config for config in known if path.name.startswith(config.stem)]
    if not named:
        raise ValueError(
            f"{path.name} is not named after a COCO configuration of MMPose; expected a name as published, such as "
            "td-hm_hrnet-w48_8xb32-210e_coco-384x288-c161b7de_20220915.pth"
        )
    return named[-1]


def load(weights: Weights, config: Path, device: str = "cpu") -> nn.Module:
    """Return MMPose's model in inference mode.

    Raises:
        ValueError: The model is not top-down with 17 keypoints, or the tensors do not fit.
        RuntimeError: MMPose is there, but does not import.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its dependencies, about their own future
        try:
            from mmpose.apis import init_model
        except ImportError as error:
            raise RuntimeError(f"mmpose is installed but does not import ({error}); steps in docs/mmpose.md") from error
        model = init_model(str(config), checkpoint=None, device=device)
    kind, points = type(model).__name__, model.dataset_meta.get("num_keypoints")
    if kind != "TopdownPoseEstimator" or points != NUM_KEYPOINTS:
        raise ValueError(f"{config.name} is a {kind} with {points} keypoints; expected top-down with 17")
    require_fit(weights.tensors, model, weights.path, config.name)
    model.load_state_dict(weights.tensors, strict=True)
    return model.requires_grad_(False)
