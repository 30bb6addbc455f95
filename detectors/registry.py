"""People in video frames: the ``DETECTORS`` registry and ``load_detector``. Cheap to import: no torch, no mediapipe."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from checkpoints.detector_weights import Download, downloads, find_weights

if TYPE_CHECKING:
    import numpy as np

    from detectors.people import People

logger = logging.getLogger(__name__)
AUTO = "auto"  # the first of BEST_FIRST that can run here
BEST_FIRST = ("yolo-hrnet", "yolo-pose", "mediapipe")  # not mmpose: the same network as yolo-hrnet, slower
YOLOS = ("yolo26m", "yolo26s", "yolo26n")  # best first, as all names of downloads
HRNETS = ("hrnet-w48-384x288", "hrnet-w32-256x192")
QUALITIES = FAST, BALANCED, BEST = ("fast", "balanced", "best")


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
        license: License of code and weights.
        python_below: First Python version without a wheel of the package; None if there is no such limit.
        weights: For every file that ``build`` needs, the names of downloads that will do, best first.
        boxes: Names of downloads for one more file, best first; without it the detector sees one person only.
        landmarks: By quality the name of a download in place of the landmark network that the package has, "full".
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
        return tuple(filter(None, (*self.weights, self.boxes, tuple(self.landmarks.values()))))

    def state(self) -> str:
        """Return in a few words whether this detector can run here, and how well."""
        return self.why_not() or ", ".join(filter(None, ("usable", self.remark())))

    def remark(self) -> str:
        """Return what ``boxes`` mean for a detector that can run; "" if it takes none."""
        return self._seen_with(self.found_boxes()) if self.boxes else ""

    def _seen_with(self, boxes: str | None) -> str:
        return f"everybody, boxes by {boxes}" if boxes else f"one person, for more: posemamba fetch {self.boxes[-1]}"

    def split(self, given: Sequence[str | Path]) -> tuple[list[str | Path], list[str | Path]]:
        """Return the networks among ``given`` in the order of ``slots``, and the landmark network.

        Either is empty where nothing of it is given: then what is here will do.

        Raises:
            ValueError: More or fewer than the detector takes.
        """
        landmarks = [each for each in given if _is_landmarks(each)]
        networks = [each for each in given if not _is_landmarks(each)]
        if len(landmarks) > bool(self.landmarks) or len(networks) not in (0, len(self.weights) + bool(self.boxes)):
            most = "" if self.weights else "at most "
            takes = "; ".join(f"{most}one of {', '.join(names)}" for names in self.slots)
            got = ", ".join(map(str, given))
            raise ValueError(f"takes {takes} (or files in their place), got {len(given)}: {got}")
        return networks, landmarks

    def about(self, networks: Sequence[str | Path], landmarks: Sequence[str | Path], quality: str) -> str:
        """Return in a few words what the detector does with these, and what ``quality`` would rather have."""
        names = [Path(each).name for each in networks]
        parts = [" and ".join(names)] if self.weights else []
        if self.landmarks:
            better = self.landmarks.get(quality)
            hint = f", {_COMPARATIVE[quality]}: posemamba fetch {better}" if better else ""
            parts.append(f"landmark network {Path(landmarks[0]).name if landmarks else 'full' + hint}")
        if self.boxes:
            parts.append(self._seen_with(names[-1] if names else None))
        return "; ".join(parts)

    def _why_no_weights(self) -> str | None:
        missing = [names for names, found in zip(self.weights, self.found_weights(), strict=True) if found is None]
        if not missing:
            return None
        known = downloads()
        missing = [tuple(name for name in names if self._can_use(known[name])) for names in missing]
        smaller = ", ".join(name for names in missing for name in names[1:])
        best = " ".join(names[0] for names in missing)
        return f"no weights: posemamba fetch {best} (smaller and faster: {smaller})"

    def found_weights(self, quality: str = BALANCED) -> list[str | None]:
        """Return for every file that is needed the name to take of those that are here, None where none is.

        That is the best one, for "fast" the smallest. Hashes are not read.
        """
        return [self._best(names[::-1] if quality == FAST else names) for names in self.weights]

    def found_boxes(self) -> str | None:
        """Return the best of ``boxes`` that is here; at every quality the same: it only says where people are."""
        return self._best(self.boxes)

    def found_landmarks(self, quality: str) -> str | None:
        """Return the landmark network for ``quality`` if it is here."""
        name = self.landmarks.get(quality)
        return self._best((name,)) if name else None

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


_COMPARATIVE = {FAST: "faster", BEST: "better"}


def _is_landmarks(name_or_path: str | Path) -> bool:
    """Return whether weights are a landmark network of MediaPipe; it alone reads such files."""
    entry = downloads().get(str(name_or_path))
    return (Path(name_or_path) if entry is None else entry.path).suffix.lower() == ".tflite"


DETECTORS: dict[str, DetectorSpec] = {
    "yolo-hrnet": DetectorSpec(
        "detectors.yolo_hrnet",
        package="ultralytics",
        extra="yolo",
        description="YOLO finds people, HRNet their keypoints: everybody, most accurate, best on a GPU",
        license="AGPL-3.0 (Ultralytics), Apache-2.0 (HRNet)",
        weights=(YOLOS, HRNETS),
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
    ),
    "mediapipe": DetectorSpec(
        "detectors.mediapipe",
        package="mediapipe",
        extra="mediapipe",
        description="MediaPipe Pose (BlazePose): one person, with boxes everybody; CPU, weights in the package",
        license="Apache-2.0",
        python_below=(3, 13),
        boxes=(*reversed(YOLOS), "yolox-nano"),  # small ones first: it is for CPUs
        landmarks={FAST: "mediapipe-lite", BEST: "mediapipe-heavy"},
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


@dataclass(frozen=True, slots=True)
class Choice:
    """What will look for people.

    Attributes:
        detector: Key of ``DETECTORS``.
        weights: Names of downloads or files, as ``build`` of the detector takes them.
        quality: One of ``QUALITIES``.
        about: The choice in words.
    """

    detector: str
    weights: tuple[str | Path, ...]
    quality: str
    about: str


def choose_detector(name: str = AUTO, weights: Sequence[str | Path] = (), quality: str = BALANCED) -> Choice:
    """Return the detector, and its weights: those given, and for networks of which none are given those here.

    Args:
        name: Key of ``DETECTORS``, or "auto" for the best one that can run.
        weights: As for ``load_detector``.
        quality: "fast" takes the smallest weights that are here, else the best ones are taken; MediaPipe's landmark
            network is "lite" for "fast", "heavy" for "best" and "full" otherwise or where that one is not here.

    Raises:
        ValueError: Unknown ``name`` or ``quality``, or a wrong number of weights.
        RuntimeError: A package or weights are missing; the message says what to do.
    """
    if quality not in QUALITIES:
        raise ValueError(f"unknown quality {quality!r}; choose one of {', '.join(QUALITIES)}")
    if name == AUTO and weights:
        raise ValueError("weights belong to one detector; name it instead of auto")
    name = resolve_detector(name)
    if name not in DETECTORS:
        raise ValueError(f"unknown detector {name!r}; choose from {', '.join((AUTO, *DETECTORS))}")
    spec = DETECTORS[name]
    try:
        networks, landmarks = spec.split(weights)
    except ValueError as error:
        raise ValueError(f"detector {name!r} {error}") from error
    if reason := spec.why_not(has_weights=bool(networks)):
        raise RuntimeError(f"detector {name!r} cannot run: {reason}")
    networks = networks or [each for each in (*spec.found_weights(quality), spec.found_boxes()) if each]
    landmarks = landmarks or [each for each in [spec.found_landmarks(quality)] if each]
    about = "; ".join(filter(None, (name, spec.about(networks, landmarks, quality))))
    return Choice(name, (*networks, *landmarks), quality, about)


def meanings() -> dict[str, str]:
    """Return for every quality what it takes of what is here, or why nothing can run."""
    try:
        return {quality: choose_detector(quality=quality).about for quality in QUALITIES}
    except RuntimeError as error:
        return dict.fromkeys(QUALITIES, str(error))


def load_detector(
    name: str = AUTO,
    weights: Sequence[str | Path] = (),
    device: str = "cpu",
    detection_interval: int = 1,
    quality: str = BALANCED,
) -> Detector:
    """Return a callable from RGB uint8 frames (H, W, 3) to one ``People`` per frame, streamed.

    Args:
        name: Key of ``DETECTORS``, or "auto" for the best one that can run.
        weights: Names of downloads or files: one for every entry of ``DetectorSpec.slots`` that a detector cannot do
            without; of the others those that are wanted. Empty for those in the checkpoints folder.
        device: Where to run, for example ``"cpu"`` or ``"cuda:0"``; detectors that only know the CPU ignore it.
        detection_interval: Boxes are looked for in every so many frames, by detectors that have them, see
            ``detectors.boxes.interpolation``.
        quality: One of ``QUALITIES``: which of the weights that are here, see ``choose_detector``.

    Raises:
        ValueError: Unknown ``name`` or ``quality``, a wrong number of weights, a file that holds others, or
            ``detection_interval`` for a detector that sees people and keypoints at once.
        FileNotFoundError: No such weights.
        RuntimeError: A package or weights are missing, or have another hash; the message says what to do.
    """
    return load_chosen(choose_detector(name, weights, quality), device, detection_interval)


def load_chosen(choice: Choice, device: str = "cpu", detection_interval: int = 1) -> Detector:
    """Return the detector of a choice; see ``load_detector``."""
    paths = tuple(map(find_weights, choice.weights))
    detector: Detector = importlib.import_module(DETECTORS[choice.detector].module).build(paths, device)
    if choice.quality == FAST and hasattr(detector, "use_flip"):
        detector.use_flip = False
    if detection_interval > 1:
        if not hasattr(detector, "detection_interval"):
            raise ValueError(
                f"detector {choice.detector!r} sees people and keypoints at once, it cannot find people in every "
                f"{detection_interval} frames only; leave detection-interval at 1 or use yolo-hrnet"
            )
        detector.detection_interval = detection_interval
    return detector
