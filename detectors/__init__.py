"""People in video frames: the ``DETECTORS`` registry and ``load_detector``. Cheap to import: no torch, no mediapipe."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from detectors.checkpoints import downloads, find_weights
from detectors.people import People

logger = logging.getLogger(__name__)
AUTO = "auto"  # the first of BEST_FIRST that can run here
BEST_FIRST = ("yolo-hrnet", "yolo-pose", "mediapipe")


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
        extra: Our optional dependency group that installs it.
        description: One line for tables and ``--help``.
        licence: Licence of code and weights.
        python_below: First Python version without a wheel of the package; None if there is no such limit.
        weights: For every file that ``build`` takes, the names of downloads that will do, best first.
    """

    module: str
    package: str
    extra: str
    description: str
    licence: str
    python_below: tuple[int, int] | None = None
    weights: tuple[tuple[str, ...], ...] = ()

    def why_not(self, has_weights: bool = False) -> str | None:
        """Return why this detector cannot run here and what to do, None if it can.

        Args:
            has_weights: The weights are given, so that none need to be in the checkpoints folder.
        """
        reasons = [self._why_no_package(), None if has_weights else self._why_no_weights()]
        return "; ".join(reason for reason in reasons if reason) or None

    def _why_no_weights(self) -> str | None:
        missing = [names for names, found in zip(self.weights, self.found_weights(), strict=True) if found is None]
        if not missing:
            return None
        smaller = ", ".join(name for names in missing for name in names[1:])
        return f"no weights: posemamba fetch {' '.join(names[0] for names in missing)} (smaller and faster: {smaller})"

    def found_weights(self) -> list[str | None]:
        """Return for every file that is needed the best name that is here, None where none is; hashes are not read."""
        known = downloads() if self.weights else {}
        return [next((name for name in names if known[name].path.is_file()), None) for names in self.weights]

    def _why_no_package(self) -> str | None:
        if importlib.util.find_spec(self.package) is not None:
            return None
        reason = f"the package {self.package} is not installed: in the checkout, pip install -e '.[{self.extra}]'"
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
        weights=(("yolo26m", "yolo26s", "yolo26n"), ("hrnet-w48-384x288", "hrnet-w32-256x192")),
    ),
    "yolo-pose": DetectorSpec(
        "detectors.yolo",
        package="ultralytics",
        extra="yolo",
        description="YOLO pose, one stage: everybody, fast",
        licence="AGPL-3.0 (Ultralytics)",
        weights=(("yolo26m-pose", "yolo26s-pose", "yolo26n-pose"),),
    ),
    "mediapipe": DetectorSpec(
        "detectors.mediapipe",
        package="mediapipe",
        extra="mediapipe",
        description="MediaPipe Pose (BlazePose full): one person, CPU, weights inside the package",
        licence="Apache-2.0",
        python_below=(3, 13),
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
        weights: Names of downloads or files, one for every entry of ``DetectorSpec.weights``; empty for the best ones
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
    if weights and len(weights) != len(spec.weights):
        takes = "; ".join("one of " + ", ".join(names) for names in spec.weights) or "none, it carries its own"
        raise ValueError(f"detector {name!r} takes {takes} (or files in their place), got {len(weights)}: {weights}")
    reason = spec.why_not(has_weights=bool(weights))
    if reason is not None:
        raise RuntimeError(f"detector {name!r} cannot run: {reason}")
    paths = tuple(find_weights(each) for each in weights or filter(None, spec.found_weights()))
    detector: Detector = importlib.import_module(spec.module).build(paths, device)
    if detect_every > 1:
        if not hasattr(detector, "detect_every"):
            raise ValueError(
                f"detector {name!r} sees people and keypoints at once, it cannot find people in every {detect_every} "
                "frames only; leave detect-every at 1 or use yolo-hrnet"
            )
        detector.detect_every = detect_every
    return detector
