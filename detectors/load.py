"""Which detector to take of those that can run here, with which weights, and loading it."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from checkpoints import find
from detectors.registry import BALANCED, BEST, DETECTORS, FAST, QUALITIES, DetectorSpec, is_landmarks

if TYPE_CHECKING:
    import numpy as np

    from detectors.people import People

logger = logging.getLogger(__name__)
AUTO = "auto"  # the first of BEST_FIRST that can run here
BEST_FIRST = ("yolo-hrnet", "yolo-pose", "mediapipe")  # not mmpose: the same network as yolo-hrnet, slower
COMPARATIVES = {FAST: "faster", BEST: "better"}


class Detector(Protocol):
    """What ``build(weights, device)`` of a detector module returns."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What made the numbers: ``detector``, ``version`` of its package, ``weights`` as file name -> SHA-256."""

    def __call__(self, frames: Iterable[np.ndarray], /) -> Iterator[People]:
        """Yield one People per RGB uint8 frame (H, W, 3); frames are streamed."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What will look for people.

    Attributes:
        detector: Key of ``DETECTORS``.
        weights: Names of downloads or files, as ``build`` of the detector takes them.
        quality: One of ``QUALITIES``.
        about: The choice in words.
        finds_boxes: Whether it finds people apart from their keypoints, see ``DetectorSpec``.
    """

    detector: str
    weights: tuple[str | Path, ...]
    quality: str
    about: str
    finds_boxes: bool


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
        raise ValueError(f"unknown quality {quality!r}; choose from {', '.join(QUALITIES)}")
    if name == AUTO and weights:
        raise ValueError("weights belong to one detector; name it instead of auto")
    name = resolve_detector(name)
    if name not in DETECTORS:
        raise ValueError(f"unknown detector {name!r}; choose from {', '.join((AUTO, *DETECTORS))}")
    spec = DETECTORS[name]
    landmarks = [each for each in weights if is_landmarks(each)]
    networks = [each for each in weights if not is_landmarks(each)]
    if len(landmarks) > bool(spec.landmarks) or len(networks) not in (0, len(spec.weights) + bool(spec.boxes)):
        most = "" if spec.weights else "at most "
        takes = "; ".join(f"{most}one of {', '.join(names)}" for names in spec.slots)
        got = ", ".join(map(str, weights))
        raise ValueError(f"detector {name!r} takes {takes} (or files in their place), got {len(weights)}: {got}")
    if reason := spec.why_not(has_weights=bool(networks)):
        raise RuntimeError(f"detector {name!r} cannot run: {reason}")
    networks = networks or [each for each in (*spec.found_weights(quality), spec.found_boxes()) if each]
    landmarks = landmarks or [each for each in [spec.found_landmarks(quality)] if each]
    about = "; ".join((name, *_about(spec, networks, landmarks, quality)))
    return Choice(name, (*networks, *landmarks), quality, about, spec.finds_boxes and bool(networks))


def _about(
    spec: DetectorSpec, networks: Sequence[str | Path], landmarks: Sequence[str | Path], quality: str
) -> Iterator[str]:
    """Yield in a few words what a detector does with these weights, and what ``quality`` would rather have."""
    names = [Path(each).name for each in networks]
    if spec.weights:
        yield " and ".join(names)
    if spec.landmarks:
        better = spec.landmarks.get(quality)
        hint = f", {COMPARATIVES[quality]}: posemamba fetch {better}" if better else ""
        yield f"landmark network {Path(landmarks[0]).name if landmarks else 'full' + hint}"
    if spec.boxes:
        yield spec.people_text(names[-1] if names else None)


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
    spec = DETECTORS[choice.detector]
    paths = tuple(find(each, "detector") for each in choice.weights)
    if detection_interval > 1 and not choice.finds_boxes:
        raise ValueError(
            f"detector {choice.detector!r} sees people and keypoints at once, it cannot find people in every "
            f"{detection_interval} frames only; leave detection-interval at 1 or use yolo-hrnet"
        )
    detector: Any = importlib.import_module(spec.module).build(paths, device)
    if choice.quality == FAST and spec.has_flip:
        detector.use_flip = False
    if choice.finds_boxes:
        detector.detection_interval = detection_interval
    loaded: Detector = detector
    return loaded
