"""People in video frames: the ``DETECTORS`` registry and ``load_detector``. Cheap to import: no torch, no mediapipe."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from detectors.checkpoints import Download, downloads, find_weights

if TYPE_CHECKING:
    import numpy as np

    from detectors.people import People

logger = logging.getLogger(__name__)
AUTO = "auto"  # the first of BEST_FIRST that can run here
BEST_FIRST = ("yolo-hrnet", "yolo-pose", "mediapipe")  # not mmpose: the same network as yolo-hrnet, slower
YOLOS = ("yolo26m", "yolo26s", "yolo26n")  # best first, as all names of downloads
HRNETS = ("hrnet-w48-384x288", "hrnet-w32-256x192")


class Detector(Protocol):
    """What ``build(weights, device)`` of a detector module returns."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What made the numbers: ``detector``, ``version`` of its package, ``weights`` as file name -> SHA-256."""

    def __call__(self, frames: Iterable[np.ndarray], /) -> Iterator[People]:
        """Yield one People per RGB uint8 frame (H, W, 3); frames are streamed."""


@dataclass(frozen=True, slots=True)
class DetectorSpec:
    """One entry of the registry.

    Attributes:
        module: Module with ``build(weights, device)``, a string so that the registry imports nothing.
        package: Package that must be importable.
        extra: Our optional dependency group that installs it; "" if none can, then docs/<package>.md has the steps.
        description: One line for tables and ``--help``.
        licence: Licence of code and weights.
        python_below: First Python version without a wheel of the package; None if there is no such limit.
        weights: For every file that ``build`` needs, the names of downloads that will do, best first.
        boxes: Names of downloads for one more file, best first; without it the detector sees one person only.
    """

    module: str
    package: str
    extra: str
    description: str
    licence: str
    python_below: tuple[int, int] | None = None
    weights: tuple[tuple[str, ...], ...] = ()
    boxes: tuple[str, ...] = ()

    def why_not(self, has_weights: bool = False) -> str | None:
        """Return why this detector cannot run here and what to do, None if it can.

        Args:
            has_weights: The weights are given, so that none need to be in the checkpoints folder.
        """
        reasons = [self._why_no_package(), None if has_weights else self._why_no_weights()]
        return "; ".join(reason for reason in reasons if reason) or None

    @property
    def slots(self) -> tuple[tuple[str, ...], ...]:
        """What can be given as weights: the names that will do for every file."""
        return (*self.weights, self.boxes) if self.boxes else self.weights

    def state(self) -> str:
        """Return in a few words whether this detector can run here, and how well."""
        return self.why_not() or ", ".join(filter(None, ("usable", self.remark())))

    def remark(self) -> str:
        """Return what ``boxes`` mean for a detector that can run; "" if it takes none."""
        if not self.boxes:
            return ""
        name = self.found_boxes()
        return f"everybody, boxes by {name}" if name else f"one person, for more: posemamba fetch {self.boxes[-1]}"

    def _why_no_weights(self) -> str | None:
        missing = [names for names, found in zip(self.weights, self.found_weights(), strict=True) if found is None]
        if not missing:
            return None
        known = downloads()
        missing = [tuple(name for name in names if self._can_use(known[name])) for names in missing]
        smaller = ", ".join(name for names in missing for name in names[1:])
        best = " ".join(names[0] for names in missing)
        return f"no weights: posemamba fetch {best} (smaller and faster: {smaller})"

    def found_weights(self) -> list[str | None]:
        """Return for every file that is needed the best name that is here, None where none is; hashes are not read."""
        return [self._best(names) for names in self.weights]

    def found_boxes(self) -> str | None:
        """Return the best of ``boxes`` that is here."""
        return self._best(self.boxes)

    def _best(self, names: Sequence[str]) -> str | None:
        known = downloads() if names else {}
        return next((name for name in names if known[name].path.is_file() and self._can_use(known[name])), None)

    def _can_use(self, entry: Download) -> bool:
        """Return whether the package that reads a file is here; a lack of our own is another reason's matter."""
        return entry.package in ("", self.package) or importlib.util.find_spec(entry.package) is not None

    def _why_no_package(self) -> str | None:
        if importlib.util.find_spec(self.package) is not None:
            return None
        how = f"in the checkout, pip install -e '.[{self.extra}]'" if self.extra else f"steps in docs/{self.package}.md"
        reason = f"the package {self.package} is not installed: {how}"
        if self.python_below is not None and sys.version_info >= self.python_below:
            limit, running = (".".join(map(str, version[:2])) for version in (self.python_below, sys.version_info))
            reason += f"; it has no wheel for Python {limit} or newer and this is {running}: use an older Python"
        return reason


DETECTORS: dict[str, DetectorSpec] = {
    "yolo-hrnet": DetectorSpec(
        "detectors.yolo_hrnet",
        package="ultralytics",
        extra="yolo",
        description="YOLO finds people, HRNet their keypoints: everybody, most accurate, best on a GPU",
        licence="AGPL-3.0 (Ultralytics), Apache-2.0 (HRNet)",
        weights=(YOLOS, HRNETS),
    ),
    "yolo-pose": DetectorSpec(
        "detectors.yolo",
        package="ultralytics",
        extra="yolo",
        description="YOLO pose, one stage: everybody, fast",
        licence="AGPL-3.0 (Ultralytics)",
        weights=(("yolo26m-pose", "yolo26s-pose", "yolo26n-pose"),),
    ),
    "mmpose": DetectorSpec(
        "detectors.mmpose",
        package="mmpose",
        extra="",
        description="MMPose's own HRNet, or any of its top-down models: everybody; for those who have it installed",
        licence="Apache-2.0 (MMPose)",
        weights=((*YOLOS, "yolox-nano"), HRNETS),
    ),
    "mediapipe": DetectorSpec(
        "detectors.mediapipe",
        package="mediapipe",
        extra="mediapipe",
        description="MediaPipe Pose (BlazePose full): one person, with boxes everybody; CPU, weights in the package",
        licence="Apache-2.0",
        python_below=(3, 13),
        boxes=(*reversed(YOLOS), "yolox-nano"),  # small ones first: it is for CPUs
    ),
}


def resolve_detector(name: str) -> str:
    """Return ``name``, and for "auto" the best detector whose package and weights are here.

    Raises:
        RuntimeError: None can run; the text says for each what is missing and the command that fixes it.
    """
    if name != AUTO:
        return name
    reasons: dict[str, str] = {}
    for name in BEST_FIRST:
        reason = DETECTORS[name].why_not()
        if reason is None:
            logger.info("detector auto: %s", "; ".join([name, *(f"not {n}: {why}" for n, why in reasons.items())]))
            return name
        reasons[name] = reason
    raise RuntimeError("no detector can run: " + ". ".join(f"{name}: {reason}" for name, reason in reasons.items()))


def load_detector(
    name: str = AUTO, weights: Sequence[str | Path] = (), device: str = "cpu", detect_every: int = 1
) -> Detector:
    """Return a callable from RGB uint8 frames (H, W, 3) to one ``People`` per frame, streamed.

    Args:
        name: Key of ``DETECTORS``, or "auto" for the best one that can run.
        weights: Names of downloads or files, one for every entry of ``DetectorSpec.slots``; empty for the best ones
            that are in the checkpoints folder.
        device: Where to run, for example ``"cpu"`` or ``"cuda:0"``; detectors that only know the CPU ignore it.
        detect_every: Boxes are looked for in every so many frames, by detectors that have them, see
            ``detectors.between``.

    Raises:
        ValueError: Unknown ``name``, a wrong number of weights, a file that holds others, or ``detect_every`` for a
            detector that sees people and keypoints at once.
        FileNotFoundError: No such weights.
        RuntimeError: A package or weights are missing, or have another hash; the message says what to do.
    """
    if name == AUTO and weights:
        raise ValueError("weights belong to one detector; name it instead of auto")
    name = resolve_detector(name)
    if name not in DETECTORS:
        raise ValueError(f"unknown detector {name!r}; choose from {', '.join((AUTO, *DETECTORS))}")
    spec = DETECTORS[name]
    if weights and len(weights) != len(spec.slots):
        takes = "; ".join("one of " + ", ".join(names) for names in spec.slots)
        raise ValueError(f"detector {name!r} takes {takes} (or files in their place), got {len(weights)}: {weights}")
    reason = spec.why_not(has_weights=bool(weights))
    if reason is not None:
        raise RuntimeError(f"detector {name!r} cannot run: {reason}")
    found = [*spec.found_weights(), spec.found_boxes()]
    paths = tuple(find_weights(each) for each in weights or filter(None, found))
    detector: Detector = importlib.import_module(spec.module).build(paths, device)
    if detect_every > 1:
        if not hasattr(detector, "detect_every"):
            raise ValueError(
                f"detector {name!r} sees people and keypoints at once, it cannot find people in every {detect_every} "
                "frames only; leave detect-every at 1 or use yolo-hrnet"
            )
        detector.detect_every = detect_every
    return detector
