"""What tests ask of an open viewer."""

from __future__ import annotations

import cv2
import numpy as np

UNSTEADY = np.cumsum(np.r_[0, np.tile([0.02, 0.05, 0.04], 40)])[:120]


def stage(tab) -> np.ndarray:
    """Return the pixels of the 3D view."""
    tab.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return cv2.imdecode(np.frombuffer(tab.locator(".pm-canvas").screenshot(), np.uint8), cv2.IMREAD_COLOR)


def go_to(tab, frame: int) -> None:
    tab.evaluate("(frame) => viewer.seek(frame)", frame)
    tab.wait_for_function("(frame) => viewer.drawn === frame", arg=frame)


def frame_of(tab) -> int:
    tab.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return int(tab.get_by_label("Frame", exact=True).input_value())


def vividness(pixels: np.ndarray) -> float:
    """Return how much blue and orange there is: limbs are the only strong colors beside the people's marks."""
    return float((pixels.max(axis=-1).astype(int) - pixels.min(axis=-1) > 90).sum())


def decoded(tab, person: int, field: str) -> np.ndarray:
    return np.array(tab.evaluate("([p, field]) => Array.from(viewer.data.people[p][field])", [person, field]))
