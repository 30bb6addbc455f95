"""``sideways_hint``: whether the whole picture seems to lie on its side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors.people import Track

SHOULDERS, ANKLES = slice(5, 7), slice(15, 17)  # of COCO-17
FLAT = 1.5  # a body lies if it reaches so many times farther sideways than up
LEAST_SHARE = 0.7  # of all frames


def sideways_hint(tracks: Sequence[Track]) -> str:
    """Return a sentence if everybody lies, with the head on the same side; else nothing. People may just be lying."""
    if not tracks:
        return ""
    bodies = np.concatenate([_body(track) for track in tracks])
    is_flat = np.abs(bodies[:, 0]) > FLAT * np.abs(bodies[:, 1])
    for rotate, side in ((270, bodies[:, 0] > 0), (90, bodies[:, 0] < 0)):
        if (is_flat & side).mean() >= LEAST_SHARE:
            return f"Everybody lies on the side: if the picture itself does, run again with --rotate {rotate}."
    return ""


def _body(track: Track) -> np.ndarray:
    """Return (T, 2) px from ankles to shoulders in observed frames."""
    points = track.keypoints[track.observed].astype(np.float64)
    return points[:, SHOULDERS].mean(axis=1) - points[:, ANKLES].mean(axis=1)
