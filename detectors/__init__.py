"""People in video frames: ``load_detector`` and the registry of detectors. Cheap to import: no torch, no mediapipe."""

from detectors.load import (
    AUTO,
    BEST_FIRST,
    Choice,
    Detector,
    choose_detector,
    load_chosen,
    load_detector,
    meanings,
    resolve_detector,
)
from detectors.registry import BALANCED, BEST, DETECTORS, FAST, QUALITIES, DetectorSpec

__all__ = [
    "AUTO",
    "BALANCED",
    "BEST",
    "BEST_FIRST",
    "DETECTORS",
    "FAST",
    "QUALITIES",
    "Choice",
    "Detector",
    "DetectorSpec",
    "choose_detector",
    "load_chosen",
    "load_detector",
    "meanings",
    "resolve_detector",
]
