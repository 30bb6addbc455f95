"""The registry ``DETECTORS``: what each detector needs and whether that is here. Imports no torch, no mediapipe."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from checkpoints import downloads

QUALITIES = FAST, BALANCED, BEST = ("fast", "balanced", "best")
YOLOS = ("yolo26m", "yolo26s", "yolo26n")  # best first, as all names of downloads
HRNETS = ("hrnet-w48-384x288", "hrnet-w32-256x192")
LANDMARKS_SUFFIX = ".tflite"  # of files that MediaPipe itself runs


@dataclass(frozen=True, slots=True)
class DetectorSpec:
    """One entry of the registry.

    Attributes:
        module: Module with ``build(weights, device)``, a string so that the registry imports nothing.
        package: Package that must be importable.
        extra: Our optional dependency group that installs it; "" if none can, then docs/<package>.md has the steps.
        description: One line for tables and ``--help``.
        license: License of code and weights.
        python_below: First Python version without a wheel of the package; None if there is no such limit.
        weights: For every file that ``build`` needs, the names of downloads that will do, best first.
        boxes: Names of downloads for one more file, best first; without it the detector finds people itself.
        landmarks: By quality the name of a download in place of the landmark network that the package has, "full".
        finds_boxes: Whether people are found apart from their keypoints, so that the built detector has a
            ``detection_interval``; with ``boxes`` it has one if such a file is used.
        has_flip: Whether the built detector has ``use_flip``: keypoints averaged with those of the mirrored picture.
    """

    module: str
    package: str
    extra: str
    description: str
    license: str
    python_below: tuple[int, int] | None = None
    weights: tuple[tuple[str, ...], ...] = ()
    boxes: tuple[str, ...] = ()
    landmarks: Mapping[str, str] = field(default_factory=dict)
    finds_boxes: bool = False
    has_flip: bool = False

    @property
    def slots(self) -> tuple[tuple[str, ...], ...]:
        """What can be given as weights: the names that will do for every file."""
        return tuple(filter(None, (*self.weights, self.boxes, tuple(self.landmarks.values()))))

    def why_not(self, has_weights: bool = False) -> str | None:
        """Return why this detector cannot run here and what to do, None if it can.

        Args:
            has_weights: The weights are given, so that none need to be in the checkpoints folder.
        """
        reasons = [self._why_no_package(), None if has_weights else self._why_no_weights()]
        return "; ".join(filter(None, reasons)) or None

    def state(self) -> str:
        """Return in a few words whether this detector can run here, and for how many people."""
        people = self.people_text(self.found_boxes()) if self.boxes else ""
        return self.why_not() or ", ".join(filter(None, ("usable", people)))

    def people_text(self, boxes: str | None) -> str:
        """Return in a few words whom a detector with optional ``boxes`` sees with these, or without any."""
        return f"everybody, boxes by {boxes}" if boxes else "everybody"

    def found_weights(self, quality: str = BALANCED) -> list[str | None]:
        """Return for every file that is needed the name to take of those that are here, None where none is.

        That is the best one, for "fast" the smallest. Hashes are not read.
        """
        return [self._first_here(names[::-1] if quality == FAST else names) for names in self.weights]

    def found_boxes(self) -> str | None:
        """Return the best of ``boxes`` that is here; at every quality the same: it only says where people are."""
        return self._first_here(self.boxes)

    def found_landmarks(self, quality: str) -> str | None:
        """Return the landmark network for ``quality`` if it is here."""
        return self._first_here([self.landmarks[quality]] if quality in self.landmarks else [])

    def _first_here(self, names: Sequence[str]) -> str | None:
        return next((name for name in names if downloads()[name].is_here and self._can_use(name)), None)

    def _can_use(self, name: str) -> bool:
        """Return whether the package that reads a file is here; a lack of our own is another reason's matter."""
        package = downloads()[name].package
        return package in ("", self.package) or importlib.util.find_spec(package) is not None

    def _why_no_weights(self) -> str | None:
        missing = [names for names, found in zip(self.weights, self.found_weights(), strict=True) if found is None]
        if not missing:
            return None
        missing = [tuple(filter(self._can_use, names)) for names in missing]
        smaller = ", ".join(name for names in missing for name in names[1:])
        best = " ".join(names[0] for names in missing)
        return f"no weights: posemamba fetch {best} (smaller and faster: {smaller})"

    def _why_no_package(self) -> str | None:
        if importlib.util.find_spec(self.package) is not None:
            return None
        how = f"in the checkout, pip install -e '.[{self.extra}]'" if self.extra else f"steps in docs/{self.package}.md"
        reason = f"the package {self.package} is not installed: {how}"
        if self.python_below is not None and sys.version_info >= self.python_below:
            limit, running = (".".join(map(str, version[:2])) for version in (self.python_below, sys.version_info))
            reason += f"; it has no wheel for Python {limit} or newer and this is {running}: use an older Python"
        return reason


def is_landmarks(name_or_path: str | Path) -> bool:
    """Return whether weights are a landmark network of MediaPipe; it alone reads such files."""
    entry = downloads("detector").get(str(name_or_path))
    return (Path(name_or_path) if entry is None else entry.path).suffix.lower() == LANDMARKS_SUFFIX


DETECTORS: dict[str, DetectorSpec] = {
    "yolo-hrnet": DetectorSpec(
        "detectors.yolo_hrnet",
        package="ultralytics",
        extra="yolo",
        description="YOLO finds people, HRNet their keypoints: everybody, most accurate, best on a GPU",
        license="AGPL-3.0 (Ultralytics), Apache-2.0 (HRNet)",
        weights=(YOLOS, HRNETS),
        finds_boxes=True,
        has_flip=True,
    ),
    "yolo-pose": DetectorSpec(
        "detectors.yolo_pose",
        package="ultralytics",
        extra="yolo",
        description="YOLO pose, one stage: everybody, fast",
        license="AGPL-3.0 (Ultralytics)",
        weights=(("yolo26m-pose", "yolo26s-pose", "yolo26n-pose"),),
    ),
    "mmpose": DetectorSpec(
        "detectors.mmpose",
        package="mmpose",
        extra="",
        description="MMPose's own HRNet, or any of its top-down models: everybody; for those who have it installed",
        license="Apache-2.0 (MMPose)",
        weights=((*YOLOS, "yolox-nano"), HRNETS),
        finds_boxes=True,
    ),
    "mediapipe": DetectorSpec(
        "detectors.mediapipe",
        package="mediapipe",
        extra="mediapipe",
        description="MediaPipe Pose (BlazePose): everybody; CPU, weights in the package",
        license="Apache-2.0",
        python_below=(3, 13),
        boxes=(*reversed(YOLOS), "yolox-nano"),  # small ones first: it is for CPUs
        landmarks={FAST: "mediapipe-lite", BEST: "mediapipe-heavy"},
        finds_boxes=True,
    ),
}
