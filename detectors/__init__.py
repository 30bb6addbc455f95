"""People in video frames: the ``DETECTORS`` registry and ``load_detector``. Cheap to import: no model, no mediapipe."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from detectors.people import People


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
    """

    module: str
    package: str
    extra: str
    description: str
    licence: str
    python_below: tuple[int, int] | None = None

    def why_not(self) -> str | None:
        """Return why this detector cannot run here and what to do, None if it can."""
        if importlib.util.find_spec(self.package) is not None:
            return None
        reason = f"the package {self.package} is not installed: in the checkout, pip install -e '.[{self.extra}]'"
        if self.python_below is not None and sys.version_info >= self.python_below:
            limit, running = (".".join(map(str, version[:2])) for version in (self.python_below, sys.version_info))
            reason += f"; it has no wheel for Python {limit} or newer and this is {running}: use an older Python"
        return reason


DETECTORS: dict[str, DetectorSpec] = {
    "mediapipe": DetectorSpec(
        "detectors.mediapipe",
        package="mediapipe",
        extra="mediapipe",
        description="MediaPipe Pose (BlazePose full): one person, CPU, weights inside the package",
        licence="Apache-2.0",
        python_below=(3, 13),
    ),
}


def load_detector(name: str, weights: Path | None = None, device: str = "cpu") -> Detector:
    """Return a callable from RGB uint8 frames (H, W, 3) to one ``People`` per frame, streamed.

    Args:
        name: Key of ``DETECTORS``.
        weights: Checkpoint of the detector; None for detectors whose package carries it.
        device: Where to run, for example ``"cpu"`` or ``"cuda:0"``; detectors that only know the CPU ignore it.

    Raises:
        ValueError: Unknown ``name``.
        RuntimeError: A package is missing; the message says how to install it.
    """
    if name not in DETECTORS:
        raise ValueError(f"unknown detector {name!r}; choose from {', '.join(DETECTORS)}")
    reason = DETECTORS[name].why_not()
    if reason is not None:
        raise RuntimeError(f"detector {name!r} cannot run: {reason}")
    detector: Detector = importlib.import_module(DETECTORS[name].module).build(weights, device)
    return detector
