"""Ultralytics' networks for people: boxes, or boxes and keypoints at once.

Of the package (AGPL-3.0) only the networks and their non-maximum suppression are used, not its predictor, downloader,
loader or settings: weights come through ``checkpoints.tensors``, which runs no code of theirs, into a network that the
package builds from its own description of the architecture, strictly. Nothing is downloaded, sent or printed.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from checkpoints.tensors import Weights
from detectors.boxes.batches import FRAMES_PER_BATCH
from detectors.boxes.types import MAX_PEOPLE, BoxDetections
from detectors.people import NUM_KEYPOINTS
from detectors.strict_weights import require_fit

# On a CPU the network sees frames one by one: 40 ms each against 81 in batches of 8, which leave its caches (yolo26n,
CPU_FRAMES = 1  # 480x640, one thread)
LONG_SIDE = 640  # of the picture as the network sees it [px]: published weights; a file may say another as "input"
MAX_LONG_SIDE = 1920
STRIDE = 32  # its sides are multiples of this
GRAY = 114  # around the picture, as in training
PERSON = 0  # class 0 of COCO
MIN_SCORE = 0.25  # published default
MAX_OVERLAP = 0.7  # intersection over union of two people; published default
NMS_SECONDS = 600.0  # the package drops boxes after 2 s by default: an answer must not depend on the machine's load
ARCHITECTURE = re.compile(r"(yolov8|yolo11|yolo12|yolo26)([nsmlx])(-pose)?\.(?:yaml|pt|safetensors)")
FOLDERS = {"yolov8": "v8", "yolo11": "11", "yolo12": "12", "yolo26": "26"}  # of the package's descriptions
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "posemamba" / "ultralytics"


class Yolo:
    """A batch of frames -> what is ``BoxDetections`` in each.

    Attributes:
        has_keypoints: Whether the network finds those, too.
        name: Architecture, for example ``yolo26n-pose``.
        long_side: Longer side of the picture as the network sees it [px].
    """

    def __init__(self, network: nn.Module, name: str, device: str = "cpu", long_side: int = LONG_SIDE) -> None:
        self.name = name
        self.long_side = long_side
        self.has_keypoints = name.endswith("-pose")
        self._network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device = torch.device(device)
        self._most = CPU_FRAMES if self._device.type == "cpu" else FRAMES_PER_BATCH
        self._head: Any = network.model[-1]  # type: ignore[index]

    def __call__(self, frames: Sequence[np.ndarray]) -> list[BoxDetections]:
        """Return one ``BoxDetections`` per RGB uint8 frame (H, W, 3); all frames have one size."""
        height, width = frames[0].shape[:2]
        box = Letterbox.of(height, width, self.long_side)
        pictures = np.stack([box.pack(frame) for frame in frames])
        found = [rows for some in torch.from_numpy(pictures).split(self._most) for rows in self._find(some)]
        return [self._seen(rows, box, height, width) for rows in found]

    @torch.inference_mode()
    def _find(self, pictures: Tensor) -> list[np.ndarray]:
        """Return (N, 6 + K) x0 y0 x1 y1 score class keypoints per picture (B, H, W, 3) uint8, in its pixels."""
        import_ultralytics()
        from ultralytics.utils.nms import non_max_suppression

        output = self._network(pictures.to(self._device).permute(0, 3, 1, 2).float() / 255)
        found = non_max_suppression(
            output, MIN_SCORE, MAX_OVERLAP, classes=[PERSON], max_det=MAX_PEOPLE, nc=self._head.nc,
            max_time_img=NMS_SECONDS, end2end=self._head.end2end,
        )  # fmt: skip
        return [rows.cpu().numpy() for rows in found]

    def _seen(self, rows: np.ndarray, box: Letterbox, height: int, width: int) -> BoxDetections:
        corners = box.unpack(rows[:, :4].reshape(-1, 2, 2)) - 0.5  # edges of pixels are counted from 0, centers here
        corners = corners.clip(0, (width - 1, height - 1))
        keypoints = None
        if self.has_keypoints:
            # Annotated in COCO as whole pixels, hence already counted from the first one's center.
            keypoints = rows[:, 6:].reshape(-1, NUM_KEYPOINTS, 3).copy()
            keypoints[..., :2] = box.unpack(keypoints[..., :2])
            keypoints[..., 2] = keypoints[..., 2].clip(0, 1)
            keypoints = keypoints.astype(np.float32)
        return BoxDetections(
            corners.reshape(-1, 4).astype(np.float32), rows[:, 4].clip(0, 1).astype(np.float32), keypoints
        )


@dataclass(frozen=True, slots=True)
class Letterbox:
    """A picture scaled to a longer side and centered on gray, sides multiples of ``STRIDE``."""

    scale: tuple[float, float]  # of x and y; they differ by rounding
    inner: tuple[int, int]  # width and height of the scaled picture [px]
    outer: tuple[int, int]  # ... and with the gray around it
    corner: tuple[int, int]  # x and y of its first pixel

    @classmethod
    def of(cls, height: int, width: int, long_side: int = LONG_SIDE) -> Letterbox:
        """Return the letterbox of pictures of this size [px], brought to ``long_side`` [px]."""
        ratio = long_side / max(height, width)
        inner = max(1, round(width * ratio)), max(1, round(height * ratio))
        outer = inner[0] + -inner[0] % STRIDE, inner[1] + -inner[1] % STRIDE
        return cls(
            (inner[0] / width, inner[1] / height), inner, outer,
            ((outer[0] - inner[0]) // 2, (outer[1] - inner[1]) // 2),
        )  # fmt: skip

    def pack(self, frame: np.ndarray) -> np.ndarray:
        """Return the picture as the network sees it."""
        (left, top), (width, height) = self.corner, self.inner
        packed = np.full((self.outer[1], self.outer[0], 3), GRAY, np.uint8)
        packed[top : top + height, left : left + width] = cv2.resize(frame, self.inner, interpolation=cv2.INTER_LINEAR)
        return packed

    def unpack(self, points: np.ndarray) -> np.ndarray:
        """Return points (..., 2) of the packed picture in pixels of the frame."""
        return (points - self.corner) / self.scale


def load(weights: Weights, device: str = "cpu") -> Yolo:
    """Return the network of a file, fused and in inference mode.

    Raises:
        ValueError: Another architecture, other classes, or tensors that do not fit.
    """
    description, name, scale = _architecture(weights)
    classes = _classes(weights)
    if classes.get(PERSON, "person") != "person":
        raise ValueError(f"{weights.path} finds {classes[PERSON]!r} as its first class, expected 'person'")
    import_ultralytics()
    from ultralytics.nn.tasks import DetectionModel, PoseModel
    from ultralytics.utils import ROOT, YAML

    plan = YAML.load(ROOT / "cfg" / "models" / description)
    is_pose = name.endswith("-pose")
    network = (PoseModel if is_pose else DetectionModel)(
        {**plan, "scale": scale, "yaml_file": f"{name}.yaml"}, nc=_num_classes(weights, classes), verbose=False
    )
    require_fit(weights.tensors, network, weights.path, f"a {name} of ultralytics {version('ultralytics')}")
    network.load_state_dict(weights.tensors, strict=True)
    network = network.eval().requires_grad_(False)
    return Yolo(network.fuse(verbose=False), name, device, _long_side(weights))


def _long_side(weights: Weights) -> int:
    """Return the picture size that a file says it was trained with, else ``LONG_SIDE``."""
    side = weights.about.get("input", LONG_SIDE)
    if not str(side).isdecimal() or not STRIDE <= int(side) <= MAX_LONG_SIDE:
        raise ValueError(
            f"{weights.path} says input {side!r}; expected the longer side, {STRIDE} to {MAX_LONG_SIDE} px"
        )
    return int(side)


def _architecture(weights: Weights) -> tuple[Path, str, str]:
    """Return the description inside the package, the name (``yolo26n-pose``) and the size letter of a file."""
    plan = weights.about.get("yaml")
    candidates = [
        weights.about.get("model"),
        plan.get("yaml_file") if isinstance(plan, Mapping) else None,
        weights.path,
    ]
    for candidate in candidates:
        match = ARCHITECTURE.fullmatch(Path(candidate).name) if isinstance(candidate, (str, Path)) else None
        if match is not None:
            family, size, pose = match[1], match[2], match[3] or ""
            return Path(FOLDERS[family]) / f"{family}{pose}.yaml", f"{family}{size}{pose}", size
    raise ValueError(
        f"{weights.path} does not say its architecture; expected one of {', '.join(FOLDERS)} in size n, s, m, "
        "l or x, with or without -pose: a published .pt, or safetensors with for example model=yolo26n.yaml as metadata"
    )


def _classes(weights: Weights) -> dict[int, str]:
    """Return the names of the classes as far as the file says them."""
    names = weights.about.get("names", {})
    if isinstance(names, str):  # metadata of safetensors
        try:
            names = json.loads(names)
        except json.JSONDecodeError as error:
            raise ValueError(f"{weights.path} has no readable class names: {names[:80]!r}") from error
    pairs = names.items() if isinstance(names, Mapping) else enumerate(names) if isinstance(names, list) else ()
    return {int(key): str(name) for key, name in pairs}


def _num_classes(weights: Weights, classes: Mapping[int, str]) -> int:
    plan = weights.about.get("yaml")
    count = plan.get("nc") if isinstance(plan, Mapping) else len(classes)
    if not isinstance(count, int) or not 1 <= count <= 1000:
        raise ValueError(f"{weights.path} says {count!r} classes; expected their names, 1 to 1000")
    return count


def import_ultralytics() -> None:
    """Import ultralytics offline and silent, and undo what its import changes for everybody else."""
    if "ultralytics" in sys.modules:
        return
    for key, value in (
        ("YOLO_OFFLINE", "1"),  # else it resolves names and reports usage
        ("YOLO_AUTOINSTALL", "false"),  # else it runs pip
        ("YOLO_VERBOSE", "false"),
        ("YOLO_CONFIG_DIR", str(CACHE)),  # else ~/.config/Ultralytics
    ):
        os.environ.setdefault(key, value)
    CACHE.mkdir(parents=True, exist_ok=True)
    threads, omp = cv2.getNumThreads(), os.environ.get("OMP_NUM_THREADS")
    with np.printoptions():  # restores them
        import ultralytics  # noqa: F401
    cv2.setNumThreads(threads)
    if omp is None:
        os.environ.pop("OMP_NUM_THREADS", None)
    torch.set_printoptions(profile="default")
