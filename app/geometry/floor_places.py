"""``floor_places``: where people stand whose places are not known, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from detectors.people import Track


def floor_places(tracks: Sequence[Track], body: float) -> list[np.ndarray]:
    """Return where each person stands, (3,) with y = 0: rows of up to three, left to right as in the picture.

    Tracks that do not overlap in time share a place, so that a long clip with many passers-by stays legible.

    Args:
        tracks: Everybody in the clip.
        body: Height of a body, which sets the distances.
    """
    slots: list[list[int]] = []
    for index in sorted(range(len(tracks)), key=lambda i: tracks[i].frames[0]):
        free = next((s for s in slots if tracks[s[-1]].frames[-1] < tracks[index].frames[0]), None)
        if free is None:
            slots.append([index])
        else:
            free.append(index)
    slots.sort(key=lambda slot: float(np.median([np.median(tracks[i].keypoints[..., 0]) for i in slot])))
    num_rows = max(1, math.ceil(len(slots) / 3))
    places = [np.zeros(3)] * len(tracks)
    for number, slot in enumerate(slots):
        column, row = divmod(number, num_rows)
        place = body * np.array([0.78 * (column + 0.5 * (row % 2)), 0, 0.9 * row])
        for index in slot:
            places[index] = place
    return places
